-- What no fact tells of the tables of one schema, as the statements that set it.
with rel as (
  select c.* from pg_class c where c.relnamespace = $1::text::regnamespace and c.relkind in ('r', 'p')
), col as (
  select format('alter table %I alter column %I ', c.relname, a.attname) as head, a.*, t.typstorage,
         -- From 15.20 on PostgreSQL itself notes there when the columns were last changed.
         array(select o from unnest(a.attoptions) o where split_part(o, '=', 1) <> 'pg_attver') as options
    from rel c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped join pg_type t on t.oid = a.atttypid
)
select head || 'set storage ' || case attstorage when 'p' then 'plain' when 'e' then 'external' when 'm' then 'main' else 'extended' end
  from col where attstorage <> typstorage
union all
select head || 'set compression ' || case attcompression when 'l' then 'lz4' else 'pglz' end from col where attcompression <> ''
union all
select head || 'set statistics ' || attstattarget from col where attstattarget >= 0
union all
select head || 'set (' || array_to_string(options, ', ') || ')' from col where options <> '{}'
union all
select format('alter table %I replica identity ', c.relname)
       || case c.relreplident when 'f' then 'full' when 'n' then 'nothing'
          else (select format('using index %I', i.relname) from pg_index x join pg_class i on i.oid = x.indexrelid
                 where x.indrelid = c.oid and x.indisreplident) end
  from rel c where c.relreplident <> 'd'
union all
select format('alter table %I cluster on %I', c.relname, i.relname)
  from rel c join pg_index x on x.indrelid = c.oid and x.indisclustered join pg_class i on i.oid = x.indexrelid
order by 1
