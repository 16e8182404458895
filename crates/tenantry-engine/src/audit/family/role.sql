with owned as (
  select a.oid as app, a.rolname, pg_describe_object(d.classid, d.objid, d.objsubid) as what,
         d.classid = 'pg_class'::regclass and d.dbid <> 0
           and exists (select from pg_attribute t, tenant_names where t.attrelid = d.objid and t.attname = any (tenant_names.names)) as tenant
    from app a join pg_shdepend d on d.refclassid = 'pg_authid'::regclass and d.refobjid = a.oid and d.deptype = 'o'
   where d.classid <> 'pg_user_mapping'::regclass and d.dbid in (0, (select oid from pg_database where datname = current_database()))
)
select 'MT040' as id, null as severity, a.rolname::text as object, 'it is a superuser' as message, format('alter role %I nosuperuser', a.rolname) as mend, null as target
  from app a where a.rolsuper
union all
select 'MT041', null, a.rolname, 'it has BYPASSRLS', format('alter role %I nobypassrls', a.rolname), null from app a where a.rolbypassrls and not a.rolsuper
union all
select 'MT042', case when r.rolcreaterole and current_setting('server_version_num')::int4 < 160000 then 'critical' else 'error' end, r.rolname,
       'it has ' || concat_ws(', ', case when r.rolcreaterole then 'CREATEROLE' end, case when r.rolcreatedb then 'CREATEDB' end, case when r.rolreplication then 'REPLICATION' end),
       format('alter role %I nocreaterole nocreatedb noreplication', r.rolname), null
  from pg_roles r join app a on a.oid = r.oid where (r.rolcreaterole or r.rolcreatedb or r.rolreplication) and not r.rolsuper
union all
select 'MT043', case when bool_or(o.tenant) then 'critical' else 'error' end, o.rolname,
       'it owns ' || (array_agg(o.what order by o.tenant desc, o.what))[1] || case when count(*) > 1 then ' and ' || (count(*) - 1) || ' more' else '' end,
       format('reassign owned by %I to <owner>', o.rolname), null
  from owned o join app a on a.oid = o.app where not a.rolsuper group by o.rolname
union all
select 'MT044', null, a.rolname, format('it can become %I, %s', r.rolname,
         case when r.rolsuper then 'a superuser' when r.rolbypassrls then 'which bypasses row security' else 'the owner of tenant tables' end),
       format('revoke %I from %I', r.rolname, a.rolname), r.rolname
  from app a join pg_roles r on r.oid <> a.oid and (pg_has_role(a.oid, r.oid, '{settable}') or pg_has_role(a.oid, r.oid, 'usage'))
 where not a.rolsuper
   and (r.rolsuper or r.rolbypassrls
        or exists (select from pg_class c join namespace n on n.oid = c.relnamespace, tenant_names
                    where c.relowner = r.oid and c.relkind in ('r', 'p')
                      and exists (select from pg_attribute t where t.attrelid = c.oid and t.attname = any (tenant_names.names))))
union all
select distinct 'MT045', null, a.rolname, format('it is in %s', p.rolname), format('revoke %I from %I', p.rolname, m.rolname), null
  from app a join pg_roles m on m.rolname !~ '^pg_' and (m.oid = a.oid or pg_has_role(a.oid, m.oid, 'usage') or pg_has_role(a.oid, m.oid, '{settable}'))
  join pg_auth_members am on am.member = m.oid join pg_roles p on p.oid = am.roleid
 where not a.rolsuper and not m.rolsuper and p.rolname ~ '^pg_' and p.rolname <> 'pg_database_owner'
union all
select 'MT046', case when x.parname = any ($3::text[]) then 'critical' else 'error' end, x.parname,
       format('%I may set it', case when x.grantee = 0 then 'public' else pg_get_userbyid(x.grantee)::text end),
       format('revoke all on parameter %I from %s', x.parname, case when x.grantee = 0 then 'public' else format('%I', pg_get_userbyid(x.grantee)) end), null
  from (select p.parname, (aclexplode(p.paracl)).grantee as grantee from pg_parameter_acl p) x
 where (x.parname = any ($3::text[]) or x.parname = 'session_replication_role')
   and (x.grantee = 0 and exists (select from app where not rolsuper) or exists (select from acts where acts.oid = x.grantee))
 group by x.parname, x.grantee
union all
select 'MT047', null, coalesce(r.rolname::text, 'all roles'), format('%s is stored for it', split_part(c, '=', 1)),
       case when s.setrole = 0 then format('alter database %I reset %s', current_database(), split_part(c, '=', 1))
            when s.setdatabase = 0 then format('alter role %I reset %s', r.rolname, split_part(c, '=', 1))
            else format('alter role %I in database %I reset %s', r.rolname, current_database(), split_part(c, '=', 1)) end, null
  from pg_db_role_setting s left join pg_roles r on r.oid = s.setrole, unnest(s.setconfig) c
 where (s.setrole = 0 or exists (select from acts where acts.oid = s.setrole) or exists (select from app where app.oid = s.setrole))
   and (s.setdatabase = 0 or s.setdatabase = (select oid from pg_database where datname = current_database()))
   and (c ~* '^(row_security=off|session_replication_role=)' or split_part(c, '=', 1) = any ($3::text[]))
union all
select 'MT048', null, r.rolname, 'it may open as many connections as the server has', format('alter role %I connection limit 100', r.rolname), null
  from pg_roles r join app a on a.oid = r.oid where r.rolconnlimit = -1
 order by 1, 3, 4
