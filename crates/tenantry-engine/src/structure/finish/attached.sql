-- The indexes of partitions that belong to one of their parent's, the parent's first.
select pg_get_indexdef(c.oid, 0, true) || format(E';\nalter index %I attach partition %I', p.relname, c.relname)
  from pg_class c
  join pg_inherits h on h.inhrelid = c.oid
  join pg_class p on p.oid = h.inhparent
 where c.relnamespace = $1::text::regnamespace and c.relkind in ('i', 'I')
   and not exists (select from pg_constraint k where k.conindid = c.oid and k.contype in ('p', 'u', 'x'))
 order by (select count(*) from pg_partition_ancestors(c.oid)), c.relname
