-- Child and parent of each foreign key between two tables of a schema ($1).
select distinct c.relname::pg_catalog.text, p.relname::pg_catalog.text
  from pg_catalog.pg_constraint f
  join pg_catalog.pg_class c on c.oid = f.conrelid
  join pg_catalog.pg_class p on p.oid = f.confrelid
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace and n.oid = p.relnamespace
 where n.nspname = $1 and f.contype = 'f' and f.conparentid = 0 and c.oid <> p.oid
 order by 1, 2
