-- $1 application roles, $2 names of the tenant column. What a superuser may do is said once (MT040) and not of each object,
-- so superusers are left out of `acts`: the roles that the application roles are, inherit or can become.
with app as (
  select oid, rolname, rolsuper, rolbypassrls from pg_roles where rolname = any ($1::text[])
), acts as (
  select r.oid, r.rolname from pg_roles r
   where not r.rolsuper
     and exists (select from app a where not a.rolsuper
                  and (a.oid = r.oid or pg_has_role(a.oid, r.oid, 'usage') or pg_has_role(a.oid, r.oid, '{settable}')))
), tenant_names as (
  select $2::text[] as names
), namespace as (
  select n.oid, n.nspname, n.nspowner, exists (select from acts a where has_schema_privilege(a.oid, n.oid, 'usage')) as reached
    from pg_namespace n
   where n.nspname not in ('pg_catalog', 'information_schema') and n.nspname !~ '^pg_(toast|temp)'
)
