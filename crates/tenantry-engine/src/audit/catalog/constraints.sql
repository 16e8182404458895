select c.oid::int8 as oid, c.conname as name, c.contype as kind, c.conrelid::int8 as relation, c.confrelid::int8 as referenced,
       coalesce(c.conkey::int4[], '{}') as key, coalesce(c.confkey::int4[], '{}') as referenced_key, c.confdeltype as on_delete, c.confupdtype as on_update,
       c.convalidated as validated, pg_get_constraintdef(c.oid) as definition, c.conparentid <> 0 as inherited
  from pg_constraint c join pg_class r on r.oid = c.conrelid join namespace n on n.oid = r.relnamespace
 where c.contype in ('f', 'x') or c.contype = 'c' and pg_get_constraintdef(c.oid) ~ 'IS NOT NULL'
 order by c.conrelid, c.conname
