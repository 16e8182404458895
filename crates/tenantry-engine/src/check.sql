with app as (select oid, rolname, rolsuper, rolbypassrls, rolcreaterole, rolcreatedb, rolreplication from pg_catalog.pg_roles where rolname = $1),
seal as (select n.nspowner as oid, r.rolname, r.rolsuper, r.rolbypassrls, r.rolcanlogin
           from pg_catalog.pg_namespace n join pg_catalog.pg_roles r on r.oid = n.nspowner where n.nspname = 'tenantry_private')
select 'role-missing', pg_catalog.format('there is no role %I: bootstrap the database again', $1) where not exists (select from app)
union all
select 'superuser', 'it is a superuser: alter role … nosuperuser' from app where rolsuper
union all
select 'bypassrls', 'it has BYPASSRLS: alter role … nobypassrls' from app where rolbypassrls
union all
select 'attributes', 'it may create roles or databases or replicate: alter role … nocreaterole nocreatedb noreplication'
  from app where rolcreaterole or rolcreatedb or rolreplication
union all
select 'member-of', pg_catalog.format('it is a member of %I: revoke that role from it', r.rolname)
  from app join pg_catalog.pg_auth_members m on m.member = app.oid join pg_catalog.pg_roles r on r.oid = m.roleid
union all
select 'owns', pg_catalog.format('it owns %s: give that to the owner role', pg_catalog.pg_describe_object(d.classid, d.objid, d.objsubid))
  from app join pg_catalog.pg_shdepend d on d.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass and d.refobjid = app.oid and d.deptype = 'o'
 where d.dbid in (0, (select oid from pg_catalog.pg_database where datname = pg_catalog.current_database()))
   -- in a large object stands no row, and the default rights of a role that makes no objects are nobody's; any SQL makes these, and must
   -- not keep the server down by them
   and d.classid not in ('pg_catalog.pg_largeobject'::pg_catalog.regclass, 'pg_catalog.pg_default_acl'::pg_catalog.regclass)
union all
select 'creates-in-schema', pg_catalog.format('it may create objects in the schema %I: revoke create on that schema from it and from PUBLIC', n.nspname)
  from app, pg_catalog.pg_namespace n
 where n.nspname !~ '^pg_(toast|temp)' and not app.rolsuper and pg_catalog.has_schema_privilege(app.oid, n.oid, 'create')
union all
select 'creates-in-database', pg_catalog.format('it may %s in this database: revoke that from it and from PUBLIC',
         case when pg_catalog.has_database_privilege(app.oid, d.oid, 'create') then 'create schemas' else 'create temporary tables, which shadow real ones,' end)
  from app, pg_catalog.pg_database d
 where d.datname = pg_catalog.current_database() and not app.rolsuper
   and pg_catalog.has_database_privilege(app.oid, d.oid, 'create, temporary')
union all
select 'public-connect', 'PUBLIC may connect to this database: revoke connect from PUBLIC'
  from pg_catalog.pg_database d
 where d.datname = pg_catalog.current_database()
   and (d.datacl is null or exists (select from pg_catalog.aclexplode(d.datacl) x where x.grantee = 0 and x.privilege_type = 'CONNECT'))
union all
select 'sets-parameter', pg_catalog.format('it may set the parameter %s: revoke set on that parameter from it and from PUBLIC', p.name)
  from app, (values ($2), ('session_replication_role')) p (name)
 where not app.rolsuper
   and (pg_catalog.has_parameter_privilege(app.oid, p.name, 'set') or pg_catalog.has_parameter_privilege(app.oid, p.name, 'alter system'))
union all
select 'reaches-keys', 'it may reach the schema tenantry_private or its tables: bootstrap the database again'
  from app
 where not app.rolsuper
   and (exists (select from pg_catalog.pg_namespace n where n.nspname = 'tenantry_private' and pg_catalog.has_schema_privilege(app.oid, n.oid, 'usage'))
     or exists (select from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
                 where n.nspname = 'tenantry_private' and c.relkind = 'r'
                   and pg_catalog.has_any_column_privilege(app.oid, c.oid, 'select, insert, update, references')))
union all
select 'calls-fence', pg_catalog.format('it may call %s: bootstrap the database again', p.oid::pg_catalog.regprocedure)
  from app, pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
 where not app.rolsuper
   and (n.nspname = 'tenantry' and p.proname ~ '^fence_' or n.nspname = 'tenantry_private' and p.proname <> 'current_seal')
   and pg_catalog.has_function_privilege(app.oid, p.oid, 'execute')
union all
select 'mechanism-owner', pg_catalog.format('the mechanism''s owner %I may log in, is a superuser or bypasses row security: take that from it', rolname)
  from seal where rolsuper or rolbypassrls or rolcanlogin
union all
select 'mechanism-owner-missing', 'the schema tenantry_private is missing: bootstrap the database again' where not exists (select from seal)
union all
select 'function-not-ours', pg_catalog.format('%s is not owned by the mechanism''s owner: drop it and bootstrap the database again', p.oid::pg_catalog.regprocedure)
  from seal, pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
 where n.nspname in ('tenantry', 'tenantry_private') and p.proowner <> seal.oid
union all
select 'row-security-off', pg_catalog.format('the table %s has the tenant column and the application role may use it, but row security is not enabled and forced: isolate it by a migration',
         c.oid::pg_catalog.regclass)
  from app, pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
 where c.relkind in ('r', 'p') and n.nspname not in ('pg_catalog', 'information_schema') and not (c.relrowsecurity and c.relforcerowsecurity)
   and exists (select from pg_catalog.pg_attribute a where a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped)
   and (pg_catalog.has_any_column_privilege(app.oid, c.oid, 'select, insert, update') or pg_catalog.has_table_privilege(app.oid, c.oid, 'delete'))
union all
select 'table-rights', pg_catalog.format('it may truncate, reference or put triggers on the table %s: revoke that', c.oid::pg_catalog.regclass)
  from app, pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
 where c.relkind in ('r', 'p') and n.nspname not in ('pg_catalog', 'information_schema') and not app.rolsuper
   and pg_catalog.has_table_privilege(app.oid, c.oid, 'truncate, references, trigger')
union all
select 'definer-bypasses', pg_catalog.format('it may call %s, which runs as %I and so bypasses row security: drop it or revoke execute', p.oid::pg_catalog.regprocedure, o.rolname)
  from app, pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace join pg_catalog.pg_roles o on o.oid = p.proowner
 where p.prosecdef and n.nspname not in ('pg_catalog', 'information_schema') and (o.rolsuper or o.rolbypassrls)
   and pg_catalog.has_function_privilege(app.oid, p.oid, 'execute') and pg_catalog.has_schema_privilege(app.oid, n.oid, 'usage')
   and not app.rolsuper
union all
select 'view-bypasses', pg_catalog.format('it may read %s, which runs as %I and so bypasses row security: make it security_invoker', c.oid::pg_catalog.regclass, o.rolname)
  from app, pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace join pg_catalog.pg_roles o on o.oid = c.relowner
 where c.relkind = 'v' and n.nspname not in ('pg_catalog', 'information_schema') and (o.rolsuper or o.rolbypassrls) and not app.rolsuper
   and not coalesce('security_invoker=true' = any (c.reloptions) or 'security_invoker=on' = any (c.reloptions), false)
   and pg_catalog.has_any_column_privilege(app.oid, c.oid, 'select, insert, update')
   and not exists (select from pg_catalog.pg_depend d where d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass and d.objid = c.oid and d.deptype = 'e')
union all
select 'role-setting', pg_catalog.format('a setting is stored for it (%s): bootstrap the database again, which resets them', x)
  from app join pg_catalog.pg_db_role_setting s on s.setrole = app.oid, pg_catalog.unnest(s.setconfig) x
 where x <> 'search_path=app, tenantry_ext'
