select 'MT070' as id, null as severity, e.extname::text as object, format('the extension %I is installed', e.extname) as message,
       format('drop extension %I', e.extname) as mend, null as target
  from pg_extension e
 where e.extname in ('dblink', 'postgres_fdw', 'file_fdw', 'adminpack', 'plpython3u', 'plperlu', 'pltclu', 'lo', 'refint', 'pg_cron', 'xml2', 'old_snapshot',
                     'pageinspect', 'pg_buffercache', 'pg_walinspect', 'pg_surgery')
union all
select 'MT090', null, t.schemaname || '.' || t.tablename, format('the publication %I sends it whole', p.pubname),
       format('alter publication %I set table %I.%I where (…)', p.pubname, t.schemaname, t.tablename), null
  from pg_publication_tables t join pg_publication p on p.pubname = t.pubname
 where t.rowfilter is null
   and exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace join pg_attribute a on a.attrelid = c.oid, tenant_names
                where n.nspname = t.schemaname and c.relname = t.tablename and a.attname = any (tenant_names.names) and not a.attisdropped)
union all
select 'MT091', null, s.slot_name, format('the logical slot uses %s', s.plugin), format('select pg_drop_replication_slot(%L)', s.slot_name), null
  from pg_replication_slots s where s.slot_type = 'logical' and s.database = current_database()
union all
select 'MT092', null, 'server', format('it is PostgreSQL %s', current_setting('server_version')), 'upgrade to 15.18, 16.14, 17.10, 18.4 or later', null
  from (select current_setting('server_version_num')::int4 as v) x
 where v < case v / 10000 when 14 then 140023 when 15 then 150018 when 16 then 160014 when 17 then 170010 when 18 then 180004 else 0 end or v < 140000
union all
select 'MT093', null, s.name, format('it is %s', s.setting),
       case s.name when 'ssl' then 'alter system set ssl = on, with a certificate' when 'password_encryption' then 'alter system set password_encryption = ''scram-sha-256'''
            when 'log_statement' then 'alter system set log_statement = ''ddl''' when 'log_parameter_max_length' then 'alter system set log_parameter_max_length = 0'
            when 'fsync' then 'alter system set fsync = on' else format('alter system set %I = ''60s''', s.name) end, null
  from pg_settings s
 where s.name = 'ssl' and s.setting = 'off' or s.name = 'password_encryption' and s.setting <> 'scram-sha-256' or s.name = 'log_statement' and s.setting = 'all'
    or s.name = 'log_parameter_max_length' and s.setting = '-1' and current_setting('log_min_duration_statement') <> '-1'
    or s.name = 'fsync' and s.setting = 'off'
    or s.name = 'idle_in_transaction_session_timeout' and s.reset_val = '0'
union all
select 'MT095', null, o.rolname, format('it owns %s large objects', count(*)), 'keep the bytes in a tenant table, then select lo_unlink(oid) from pg_largeobject_metadata', null
  from pg_largeobject_metadata m join app o on o.oid = m.lomowner group by o.rolname
union all
select 'MT096', null, n.nspname, 'its name has 63 bytes, where PostgreSQL cuts names', format('alter schema %I rename to …', n.nspname), null
  from namespace n where octet_length(n.nspname) = 63
union all
select 'MT097', null, string_agg(n.nspname, ', ' order by n.nspname), 'their names differ by case only', format('alter schema %I rename to …', min(n.nspname)), null
  from namespace n group by lower(n.nspname) having count(*) > 1
union all
select 'MT098', null, m.srvname, format('the mapping of %s gives its password', m.usename), format('drop user mapping for %I server %I', m.usename, m.srvname), null
  from pg_user_mappings m where m.usename = 'public' or m.usename in (select rolname from app)
union all
select 'MT099', null, l.lanname, 'functions in it are not confined', format('drop language %I', l.lanname), null
  from pg_language l where not l.lanpltrusted and l.lanname not in ('internal', 'c')
 order by 1, 3
