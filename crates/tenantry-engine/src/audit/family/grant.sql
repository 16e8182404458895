select 'MT052' as id, null as severity, coalesce(n.nspname::text, current_database()::text) as object,
       format('%s on new %s is granted to PUBLIC', string_agg(lower(x.privilege_type), ', ' order by x.privilege_type),
              case d.defaclobjtype when 'r' then 'tables' when 'S' then 'sequences' when 'f' then 'functions' when 'T' then 'types' else 'schemas' end) as message,
       format('alter default privileges for role %I%s revoke all on %s from public', pg_get_userbyid(d.defaclrole), case when n.nspname is null then '' else format(' in schema %I', n.nspname) end,
              case d.defaclobjtype when 'r' then 'tables' when 'S' then 'sequences' when 'f' then 'functions' when 'T' then 'types' else 'schemas' end) as mend, null as target
  from pg_default_acl d left join pg_namespace n on n.oid = d.defaclnamespace, aclexplode(d.defaclacl) x
 -- functions and types are PUBLIC's by default: an entry that only repeats that is none
 where x.grantee = 0 and (d.defaclobjtype not in ('f', 'T') or d.defaclnamespace <> 0)
 group by d.oid, n.nspname, d.defaclobjtype, d.defaclrole
union all
select 'MT053', null, n.nspname, format('%s may create objects in it', string_agg(format('%I', a.rolname), ', ')),
       format('revoke create on schema %I from public, %s', n.nspname, string_agg(format('%I', a.rolname), ', ')), null
  from namespace n, acts a where has_schema_privilege(a.oid, n.oid, 'create') group by n.nspname
union all
select 'MT054', null, d.datname, format('%s may create %s in it', string_agg(format('%I', a.rolname), ', '),
         concat_ws(' and ', case when bool_or(has_database_privilege(a.oid, d.oid, 'create')) then 'schemas' end,
                            case when bool_or(has_database_privilege(a.oid, d.oid, 'temporary')) then 'temporary objects' end)),
       format('revoke create, temporary on database %I from public, %s', d.datname, string_agg(format('%I', a.rolname), ', ')), null
  from pg_database d, acts a where d.datname = current_database() and has_database_privilege(a.oid, d.oid, 'create, temporary') group by d.datname
union all
select 'MT055', case when $3::boolean then 'error' else 'info' end, l.lanname, 'the application role may write code in it', format('revoke usage on language %I from public', l.lanname), null
  from pg_language l where l.lanpltrusted and l.lanname not in ('internal', 'c') and exists (select from acts a where has_language_privilege(a.oid, l.oid, 'usage'))
union all
select 'MT056', case when $3::boolean or bool_or(not x.by_default) then 'error' else 'info' end, case when bool_or(not x.by_default) then 'functions beyond the default' else 'functions of PUBLIC' end,
       format('the application role may call %s', string_agg(distinct x.name, ', ' order by x.name)),
       string_agg(format('revoke execute on function %s from public', x.signature), '; ' order by x.signature), null
  from (select p.proname::text as name, p.oid::regprocedure::text as signature,
               p.proname in ('set_config', 'pg_notify', 'pg_advisory_lock', 'lo_from_bytea', 'lo_get', 'pg_terminate_backend', 'pg_cancel_backend', 'query_to_xml',
                             'pg_stat_get_activity', 'pg_logical_emit_message') as by_default
          from pg_proc p
         where p.proname in ('set_config', 'pg_notify', 'pg_advisory_lock', 'lo_from_bytea', 'lo_get', 'pg_terminate_backend', 'pg_cancel_backend', 'query_to_xml',
                             'pg_stat_get_activity', 'pg_logical_emit_message', 'dblink', 'dblink_exec', 'dblink_connect_u', 'pg_read_file', 'pg_read_binary_file',
                             'pg_ls_dir', 'lo_import', 'lo_export', 'pg_stat_file', 'pg_reload_conf')
           and exists (select from acts a where has_function_privilege(a.oid, p.oid, 'execute') and has_schema_privilege(a.oid, p.pronamespace, 'usage'))) x
 group by x.by_default
union all
select 'MT058', null, d.datname, 'PUBLIC may connect to it', format('revoke connect on database %I from public', d.datname), null
  from pg_database d where d.datname = current_database()
   and (d.datacl is null or exists (select from aclexplode(d.datacl) x where x.grantee = 0 and x.privilege_type = 'CONNECT'))
 order by 1, 3
