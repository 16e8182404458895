-- The collations that columns and indexes of a schema's tables use, each with what it means on this server. The columns of the system
-- catalogs have other names in other releases, so they are read by name.
with tables as (
  select c.oid
    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
   where n.nspname = $1 and c.relkind in ('r', 'p')
), used as (
  select a.attcollation as oid, null::pg_catalog.text as unique_index
    from tables t join pg_catalog.pg_attribute a on a.attrelid = t.oid
   where a.attnum > 0 and not a.attisdropped
  union all
  select k.oid, case when i.indisunique or i.indisexclusion then x.relname::pg_catalog.text end
    from tables t
    join pg_catalog.pg_index i on i.indrelid = t.oid
    join pg_catalog.pg_class x on x.oid = i.indexrelid
   cross join lateral pg_catalog.unnest(i.indcollation::pg_catalog.oid[]) as k (oid)
), grouped as (
  select u.oid, pg_catalog.min(u.unique_index) as unique_index from used u where u.oid <> 0 group by u.oid
)
select case when n.nspname in ('pg_catalog', $1) then l.collname::pg_catalog.text
            else pg_catalog.format('%s.%s', n.nspname, l.collname) end,
       pg_catalog.concat_ws(' ',
         case coalesce(d.j ->> 'datlocprovider', c.j ->> 'collprovider')
           when 'i' then 'icu' when 'b' then 'builtin' when 'c' then 'libc' else 'unknown' end,
         coalesce(d.j ->> 'datlocale', d.j ->> 'daticulocale', d.j ->> 'datcollate',
                  c.j ->> 'colllocale', c.j ->> 'colliculocale', c.j ->> 'collcollate'),
         coalesce(d.j ->> 'daticurules', c.j ->> 'collicurules'),
         pg_catalog.pg_collation_actual_version(l.oid)),
       not l.collisdeterministic,
       g.unique_index
  from grouped g
  join pg_catalog.pg_collation l on l.oid = g.oid
  join pg_catalog.pg_namespace n on n.oid = l.collnamespace
 cross join lateral (select pg_catalog.to_jsonb(l) as j) as c
  left join lateral (
    select pg_catalog.to_jsonb(b) as j from pg_catalog.pg_database b
     where l.collprovider = 'd' and b.datname = pg_catalog.current_database()
  ) as d on true
