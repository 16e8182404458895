select p.oid::int8 as oid, p.polrelid::int8 as relation, p.polname as name, p.polcmd as command, p.polpermissive as permissive,
       array(select r::int8 from unnest(p.polroles) r) as roles,
       p.polroles = '{0}' or exists (select from unnest(p.polroles) r join acts a on a.oid = r) as applies,
       pg_get_expr(p.polqual, p.polrelid) as using_text, pg_get_expr(p.polwithcheck, p.polrelid) as check_text,
       array(select a.attname from pg_attribute a where a.attrelid = p.polrelid and a.attnum > 0 and not a.attisdropped) as columns,
       array(select distinct d.refobjid::int8 from pg_depend d where d.classid = 'pg_policy'::regclass and d.objid = p.oid and d.refclassid = 'pg_proc'::regclass) as functions,
       array(select distinct d.refobjid::int8 from pg_depend d where d.classid = 'pg_policy'::regclass and d.objid = p.oid
              and d.refclassid = 'pg_class'::regclass and d.refobjid <> p.polrelid) as relations,
       array(select r.rolname from pg_roles r where r.oid = any (p.polroles) and (r.rolsuper or r.rolbypassrls) and r.rolname <> all ($1::text[])) as bypassing_roles
  from pg_policy p join pg_class c on c.oid = p.polrelid join namespace n on n.oid = c.relnamespace
 order by c.oid, p.polname
