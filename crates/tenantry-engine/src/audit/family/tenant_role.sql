select 'MT104' as id, null as severity, a.rolname::text as object, format('it may use the schemas %s', string_agg(n.nspname, ', ' order by n.nspname)) as message,
       string_agg(format('revoke usage on schema %I from %I', n.nspname, a.rolname), '; ' order by n.nspname) as mend, null as target
  from app a join namespace n on n.nspname like $3::text and has_schema_privilege(a.oid, n.oid, 'usage')
 where (select count(*) from app) > 1 and not a.rolsuper
 group by a.rolname having count(*) > 1
