-- A row for each column that holds values, of each isolated table of a schema ($1).
with recursive tables as (
  select c.oid, c.relname, pg_catalog.format('%I.%I', n.nspname, c.relname) as quoted
    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
   where n.nspname = $1 and c.relkind in ('r', 'p') and not c.relispartition
     and exists (select from pg_catalog.pg_attribute a
                  where a.attrelid = c.oid and a.attname = 'tenant_id' and a.atttypid = 'pg_catalog.uuid'::pg_catalog.regtype
                    and not a.attisdropped)
-- What a domain, an array or a range is made of.
), parts as (
  select t.oid as whole, t.oid as part, false as in_array from pg_catalog.pg_type t
   where t.oid in (select a.atttypid from pg_catalog.pg_attribute a join tables on tables.oid = a.attrelid where a.attnum > 0)
  union
  select p.whole, next.part, next.in_array
    from parts p join pg_catalog.pg_type t on t.oid = p.part
    cross join lateral (
      select t.typbasetype, p.in_array where t.typtype = 'd'
      union all
      select t.typelem, true where t.typelem <> 0 and t.typsubscript = 'pg_catalog.array_subscript_handler'::pg_catalog.regproc
      union all
      select r.rngsubtype, p.in_array from pg_catalog.pg_range r where t.oid in (r.rngtypid, r.rngmultitypid)
    ) as next (part, in_array)
), doubtful as (
  select p.whole, pg_catalog.bool_or(
           t.typsend = 0 or t.typreceive = 0
           -- a composite's binary form holds the numbers of its columns' types
           or t.typtype = 'c'
           -- an array's holds the number of its elements' type; below 16384 they are PostgreSQL's own, the same everywhere
           or p.in_array and t.oid >= 16384
           -- the number of an object
           or t.oid = 'pg_catalog.oid'::pg_catalog.regtype
           or t.typname like 'reg%' and t.typnamespace = 'pg_catalog'::pg_catalog.regnamespace
           -- an extension's may differ from version to version
           or exists (select from pg_catalog.pg_depend d where d.classid = 'pg_catalog.pg_type'::pg_catalog.regclass
                        and d.objid = t.oid and d.deptype = 'e')
         ) as is_doubtful
    from parts p join pg_catalog.pg_type t on t.oid = p.part
   group by p.whole
)
select t.relname::pg_catalog.text as table_name, t.quoted as quoted_table,
       a.attname::pg_catalog.text as column_name, pg_catalog.quote_ident(a.attname) as quoted_column,
       pg_catalog.format_type(a.atttypid, a.atttypmod) as kind,
       not d.is_doubtful as "binary",
       a.attidentity::pg_catalog.text as identity,
       (select s.relname::pg_catalog.text
          from pg_catalog.pg_class s
         where s.relkind = 'S' and s.relnamespace = (select c.relnamespace from pg_catalog.pg_class c where c.oid = t.oid)
           and (exists (select from pg_catalog.pg_depend o
                         where o.classid = 'pg_catalog.pg_class'::pg_catalog.regclass and o.objid = s.oid
                           and o.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass and o.refobjid = t.oid
                           and o.refobjsubid = a.attnum and o.deptype = 'i')
             or exists (select from pg_catalog.pg_attrdef f join pg_catalog.pg_depend o
                            on o.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass and o.objid = f.oid
                           and o.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass and o.refobjid = s.oid
                         where f.adrelid = t.oid and f.adnum = a.attnum))
         order by s.relname limit 1) as sequence,
       coalesce((select pg_catalog.array_agg(k.attname::pg_catalog.text order by u.place)
                   from (select i.indkey, i.indnkeyatts
                           from pg_catalog.pg_index i
                          where i.indrelid = t.oid and i.indisunique and i.indisvalid and i.indpred is null and i.indexprs is null
                            and not exists (select from pg_catalog.unnest(i.indkey::pg_catalog.int2[]) with ordinality u (num, place)
                                              join pg_catalog.pg_attribute n on n.attrelid = t.oid and n.attnum = u.num
                                             where u.place <= i.indnkeyatts and (not n.attnotnull or n.attgenerated <> ''))
                          order by i.indisprimary desc, i.indisreplident desc, i.indnkeyatts, i.indexrelid limit 1) as i
                   cross join lateral pg_catalog.unnest(i.indkey::pg_catalog.int2[]) with ordinality as u (num, place)
                   join pg_catalog.pg_attribute k on k.attrelid = t.oid and k.attnum = u.num
                  where u.place <= i.indnkeyatts), '{}') as key
  from tables t
  join pg_catalog.pg_attribute a on a.attrelid = t.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''
  join doubtful d on d.whole = a.atttypid
 order by t.relname collate "C", a.attname collate "C"
