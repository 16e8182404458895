select i.indexrelid::int8 as oid, ic.relname as name, i.indrelid::int8 as relation, i.indisunique as is_unique, i.indisprimary as is_primary,
       i.indisexclusion as is_exclusion, (i.indkey::int2[])[0:i.indnkeyatts - 1]::int4[] as key, am.amname as method,
       pg_get_expr(i.indexprs, i.indrelid) as expressions,
       (select coalesce(bool_and(coalesce(a.atttypid = 'uuid'::regtype, false)), false)
          from unnest((i.indkey::int2[])[0:i.indnkeyatts - 1]) k left join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k and k <> 0) as all_uuid,
       co.conname as constraint_name,
       -- asked once, not for each index
       i.indclass::oid[] && array(select o.oid from pg_opclass o join pg_amop ao on ao.amopfamily = o.opcfamily
                                    join pg_operator op on op.oid = ao.amopopr join pg_proc p on p.oid = op.oprcode where p.proleakproof) as leakproof
  from pg_index i join pg_class ic on ic.oid = i.indexrelid join pg_am am on am.oid = ic.relam join pg_class c on c.oid = i.indrelid
  join namespace n on n.oid = c.relnamespace
  left join pg_constraint co on co.conindid = i.indexrelid and co.contype in ('p', 'u', 'x')
 where c.relkind in ('r', 'p')
   and exists (select from pg_attribute a, tenant_names where a.attrelid = c.oid and a.attname = any (tenant_names.names) and not a.attisdropped)
 order by i.indrelid, ic.relname
