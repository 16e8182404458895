-- What needs what among the objects of one schema: an object, what it needs, and the foreign key by which it does, if it is one.
-- A sequence that belongs to a column is made before it, and tied to it later.
with here as (
  select $1::text::regnamespace::oid as ns
), rel as (
  select c.oid, c.relname::text as name, case c.relkind when 'v' then 'view' when 'S' then 'sequence' else 'table' end as class
    from pg_class c, here where c.relnamespace = here.ns and c.relkind in ('r', 'p', 'v', 'S')
), object as (
  select 'pg_class'::regclass::oid as catalog, oid, class, name from rel
  union all
  select 'pg_proc'::regclass, p.oid, 'function', format('%I(%s)', p.proname, pg_get_function_identity_arguments(p.oid))
    from pg_proc p, here where p.pronamespace = here.ns
  union all
  select 'pg_type'::regclass, t.oid, 'type', t.typname::text
    from pg_type t, here
   where t.typnamespace = here.ns and t.typtype in ('e', 'd', 'c', 'r')
     and (t.typrelid = 0 or exists (select from pg_class c where c.oid = t.typrelid and c.relkind = 'c'))
), part as (
  select catalog as classid, oid as objid, class, name, ''::text as key from object
  union all
  select 'pg_attrdef'::regclass, d.oid, r.class, r.name, '' from pg_attrdef d join rel r on r.oid = d.adrelid
  union all
  select 'pg_rewrite'::regclass, w.oid, r.class, r.name, '' from pg_rewrite w join rel r on r.oid = w.ev_class
  union all
  select 'pg_constraint'::regclass, k.oid, o.class, o.name, case k.contype when 'f' then k.conname::text else '' end
    from pg_constraint k join object o on o.oid = case when k.conrelid <> 0 then k.conrelid else k.contypid end
     and o.catalog = case when k.conrelid <> 0 then 'pg_class'::regclass else 'pg_type'::regclass end
  union all
  select 'pg_type'::regclass, t.oid, r.class, r.name, '' from pg_type t join rel r on r.oid = t.typrelid
  union all
  select 'pg_class'::regclass, t.typrelid, 'type', t.typname::text, '' from pg_type t, here
   where t.typnamespace = here.ns and t.typtype = 'c' and exists (select from pg_class c where c.oid = t.typrelid and c.relkind = 'c')
  union all
  select 'pg_type'::regclass, a.oid, o.class, o.name, ''
    from pg_type a join pg_type t on t.typarray = a.oid join object o on o.catalog = 'pg_type'::regclass and o.oid = t.oid
  union all
  select 'pg_type'::regclass, a.oid, r.class, r.name, ''
    from pg_type a join pg_type t on t.typarray = a.oid join rel r on r.oid = t.typrelid
)
select distinct a.class, a.name, b.class, b.name, a.key
  from pg_depend d
  join part a on a.classid = d.classid and a.objid = d.objid
  join part b on b.classid = d.refclassid and b.objid = d.refobjid
 where (a.class, a.name) <> (b.class, b.name)
   and not (a.class = 'sequence' and d.deptype in ('a', 'i'))
union
-- To oneself too, so that every foreign key tells where it points.
select 'table', c.name, 'table', t.name, k.conname::text
  from pg_constraint k join rel c on c.oid = k.conrelid join rel t on t.oid = k.confrelid
 where k.contype = 'f' and k.conparentid = 0
order by 1, 2, 3, 4, 5
