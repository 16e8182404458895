-- The objects of one schema, as its facts name them, in the order in which they were made.
with here as (
  select $1::text::regnamespace::oid as ns
)
select o.class, o.name
  from (
    select c.oid, case c.relkind when 'v' then 'view' when 'S' then 'sequence' else 'table' end as class, c.relname::text as name
      from pg_class c, here where c.relnamespace = here.ns and c.relkind in ('r', 'p', 'v', 'S')
    union all
    select p.oid, 'function', format('%I(%s)', p.proname, pg_get_function_identity_arguments(p.oid))
      from pg_proc p, here where p.pronamespace = here.ns
    union all
    select t.oid, 'type', t.typname::text
      from pg_type t, here
     where t.typnamespace = here.ns and t.typtype in ('e', 'd', 'c', 'r')
       and (t.typrelid = 0 or exists (select from pg_class c where c.oid = t.typrelid and c.relkind = 'c'))
  ) o
 order by o.oid
