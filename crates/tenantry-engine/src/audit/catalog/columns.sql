select c.oid::int8 as relation,
       array(select format('%s %s%s', a.attname, format_type(a.atttypid, a.atttypmod), case when a.attnotnull then ' not null' else '' end)
               from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped) as columns
  from pg_class c join namespace n on n.oid = c.relnamespace
 where c.relkind in ('r', 'p', 'v') and (n.nspname like $3::text or n.nspname ~ '^t_[0-9a-f]{32}$')
