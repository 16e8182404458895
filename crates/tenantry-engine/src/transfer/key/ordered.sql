-- The tables of a schema ($1) whose rows every server orders alike by their primary key, with the key's columns behind tenant_id. The
-- stream names rows by the same key there.
select c.relname::pg_catalog.text as table_name,
       pg_catalog.array_agg(a.attname::pg_catalog.text order by k.place) filter (where k.place > 1) as columns,
       pg_catalog.array_agg(k.collated <> 0 order by k.place) filter (where k.place > 1) as are_text
  from pg_catalog.pg_class c
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  join pg_catalog.pg_index i on i.indrelid = c.oid and i.indisprimary
 cross join lateral rows from (
   pg_catalog.unnest(i.indkey::pg_catalog.int2[]), pg_catalog.unnest(i.indcollation::pg_catalog.oid[])
 ) with ordinality as k (num, collated, place)
  join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum = k.num
 where n.nspname = $1 and c.relkind in ('r', 'p') and not c.relispartition and c.relreplident = 'd' and k.place <= i.indnkeyatts
 group by c.oid, c.relname
having pg_catalog.count(*) > 1
   and pg_catalog.bool_and((k.place = 1) = (a.attname = 'tenant_id'))
   -- A domain may be checked otherwise, and a type of an extension's ordered otherwise, from version to version.
   and pg_catalog.bool_and(
         a.atttypid in (
           'pg_catalog.int2'::pg_catalog.regtype, 'pg_catalog.int4'::pg_catalog.regtype, 'pg_catalog.int8'::pg_catalog.regtype,
           'pg_catalog.numeric'::pg_catalog.regtype, 'pg_catalog.uuid'::pg_catalog.regtype, 'pg_catalog.date'::pg_catalog.regtype,
           'pg_catalog.timestamp'::pg_catalog.regtype, 'pg_catalog.timestamptz'::pg_catalog.regtype
         )
         or a.atttypid in ('pg_catalog.text'::pg_catalog.regtype, 'pg_catalog.varchar'::pg_catalog.regtype)
            and k.collated = 'pg_catalog."C"'::pg_catalog.regcollation
       )
