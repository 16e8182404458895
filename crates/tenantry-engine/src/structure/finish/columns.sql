-- The columns of one schema's tables in their order: the name of what forbids nulls, where it has one, and the sequence of an
-- identity column.
select c.relname::text, a.attname::text, k.conname::text, s.relname::text, a.attgenerated::text
  from pg_class c
  join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
  left join pg_constraint k on k.conrelid = c.oid and k.contype = 'n' and k.conkey = array[a.attnum]
  left join pg_depend d on a.attidentity <> '' and d.classid = 'pg_class'::regclass and d.deptype = 'i'
                       and d.refclassid = 'pg_class'::regclass and d.refobjid = c.oid and d.refobjsubid = a.attnum
  left join pg_class s on s.oid = d.objid and s.relkind = 'S'
 where c.relnamespace = $1::text::regnamespace and c.relkind in ('r', 'p')
   and (d.objid is null or s.oid is not null)
 order by c.relname, a.attnum
