-- What a group takes from PUBLIC: an object, whether PUBLIC had the right when the server was made (only then it is taken,
-- and given back), whether it has it now, and whether some of the roles that keep it lack it.
with wanted as (
  select * from rows from (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[]), pg_catalog.unnest($3::text[])) g (name, functions, relations)
),
object as (
  select g.name, 'function' as kind, 'execute' as privilege, p.oid, 'pg_catalog.pg_proc'::pg_catalog.regclass as class,
         p.oid::pg_catalog.regprocedure::text as identity, p.proacl as acl, pg_catalog.acldefault('f', p.proowner) as usual
    from wanted g join pg_catalog.pg_proc p on p.proname ~ g.functions
   where p.pronamespace = 'pg_catalog'::pg_catalog.regnamespace and p.prokind <> 'p' and g.functions <> ''
  union all
  select g.name, 'function', 'execute', p.oid, 'pg_catalog.pg_proc'::pg_catalog.regclass,
         p.oid::pg_catalog.regprocedure::text, p.proacl, pg_catalog.acldefault('f', p.proowner)
    from wanted g join pg_catalog.pg_extension e on e.extname = g.name
    join pg_catalog.pg_depend d on d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass and d.refobjid = e.oid and d.deptype = 'e'
    join pg_catalog.pg_proc p on d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass and p.oid = d.objid
   where p.prokind <> 'p'
  union all
  select g.name, 'table', 'select', c.oid, 'pg_catalog.pg_class'::pg_catalog.regclass,
         c.oid::pg_catalog.regclass::text, c.relacl, pg_catalog.acldefault('r', c.relowner)
    from wanted g join pg_catalog.pg_class c on c.relname ~ g.relations
   where c.relnamespace = 'pg_catalog'::pg_catalog.regnamespace and c.relkind in ('r', 'v') and g.relations <> ''
  union all
  select g.name, 'language', 'usage', l.oid, 'pg_catalog.pg_language'::pg_catalog.regclass,
         pg_catalog.quote_ident(l.lanname), l.lanacl, pg_catalog.acldefault('l', l.lanowner)
    from wanted g, pg_catalog.pg_language l
   where g.name = 'languages' and l.lanpltrusted
)
select o.name, o.kind, o.privilege, o.identity, today.public,
       today.public or exists (
         select from pg_catalog.unnest($4::text[]) r (role)
          where not case o.kind when 'function' then pg_catalog.has_function_privilege(r.role, o.oid, 'execute')
                                when 'table' then pg_catalog.has_table_privilege(r.role, o.oid, 'select')
                                else pg_catalog.has_language_privilege(r.role, o.oid, 'usage') end) as lacking
  from object o
  left join pg_catalog.pg_init_privs i on i.classoid = o.class and i.objoid = o.oid and i.objsubid = 0
 cross join lateral (select exists (select from pg_catalog.aclexplode(coalesce(i.initprivs, o.usual)) x
                                     where x.grantee = 0 and pg_catalog.lower(x.privilege_type) = o.privilege) as public) at_first
 cross join lateral (select exists (select from pg_catalog.aclexplode(coalesce(o.acl, o.usual)) x
                                     where x.grantee = 0 and pg_catalog.lower(x.privilege_type) = o.privilege) as public) today
 where at_first.public
 order by o.name, o.kind, o.identity
