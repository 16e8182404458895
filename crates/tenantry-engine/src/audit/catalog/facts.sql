select current_setting('server_version_num')::int4 as version, current_database() as database,
       (select rolsuper from pg_roles where rolname = current_user) as superuser,
       array(select a from unnest($1::text[]) a where not exists (select from app where rolname = a)) as missing_roles,
       array(select n.nspname from namespace n where exists (select from acts a where has_schema_privilege(a.oid, n.oid, 'create'))) as creatable_schemas,
       exists (select from acts a, pg_database d where d.datname = current_database() and has_database_privilege(a.oid, d.oid, 'create')) as creates_schemas,
       exists (select from acts a, pg_database d where d.datname = current_database() and has_database_privilege(a.oid, d.oid, 'temporary')) as creates_temporary,
       array(select oid::int8 from acts) as acts, array(select rolname from acts) as act_names,
       array(select oid::int8 from pg_roles where rolsuper or rolbypassrls) as bypassing,
       -- who has the rights of whom: an owner's view reads as the owner's member would
       array(select json_build_array(m.oid::int8, o.oid::int8) from pg_roles m, (select distinct relowner as oid from pg_class where relkind in ('r', 'p') and oid >= 16384) o
              where m.oid <> o.oid and not m.rolsuper and m.rolname !~ '^pg_' and pg_has_role(m.oid, o.oid, 'usage')) as rights,
       has_table_privilege('pg_catalog.pg_hba_file_rules', 'select')
         and has_function_privilege('pg_catalog.pg_hba_file_rules()', 'execute') as reads_hba
