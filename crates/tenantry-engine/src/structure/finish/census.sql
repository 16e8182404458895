-- Everything that PostgreSQL keeps of the objects of one schema, without the numbers it gave them: whole rows of its catalogs, so
-- that a property nobody thought of counts as well. Definitions stand as PostgreSQL writes them, other objects by their names.
with recursive here as (
  select $1::text::regnamespace::oid as ns
), rel as (
  select c.* from pg_class c, here where c.relnamespace = here.ns
), reach as (
  select 'pg_namespace'::regclass::oid as classid, here.ns as objid from here
  union
  select d.classid, d.objid from pg_depend d join reach r on d.refclassid = r.classid and d.refobjid = r.objid
), object as (
  select r.classid, r.objid, o.type, o.identity
    from reach r, pg_identify_object(r.classid, r.objid, 0) o
   -- Named by numbers, and made with their table and their keys.
   where o.schema is distinct from 'pg_toast'
     and not (r.classid = 'pg_trigger'::regclass and exists (select from pg_trigger g where g.oid = r.objid and g.tgisinternal))
)
select 'object' as kind, o.type || ' ' || o.identity as name, to_jsonb(array[]::text[]) as what from object o
union all
select 'comment', o.type || ' ' || o.identity || ' ' || d.objsubid, to_jsonb(d.description)
  from object o join pg_description d on d.classoid = o.classid and d.objoid = o.objid
 where o.classid <> 'pg_namespace'::regclass
union all
select 'label', o.type || ' ' || o.identity || ' ' || l.objsubid || l.provider, to_jsonb(l.label)
  from object o join pg_seclabel l on l.classoid = o.classid and l.objoid = o.objid
union all
select 'relation', c.relname::text,
       -- Hints, figures of what vacuum saw, and the number of columns that were dropped.
       to_jsonb(c) - '{oid,relnamespace,reltype,reloftype,relfilenode,reltablespace,reltoastrelid,relpages,reltuples,relallvisible,relallfrozen,relfrozenxid,relminmxid,relrewrite,relacl,relowner,relnatts,relhasindex,relhasrules,relhastriggers,relhassubclass,relpartbound,relam}'::text[]
       || jsonb_build_object('method', (select a.amname from pg_am a where a.oid = c.relam), 'space', c.reltablespace,
                             'toast', (select t.reloptions from pg_class t where t.oid = c.reltoastrelid))
  from rel c
union all
-- Those of an index keep the names that the table's had when it was made, which nothing shows. `pg_attver` is PostgreSQL's own, from 15.20
-- on: when the columns were last changed.
select 'column', c.relname || ' ' || case when c.relkind in ('i', 'I') then a.attnum::text else a.attname end,
       to_jsonb(a) - case when c.relkind in ('i', 'I') then '{attname}'::text[] else '{}' end - '{attrelid,attnum,atttypid,attcacheoff,attcollation,attmissingval,atthasmissing,attacl,attndims}'::text[]
       || jsonb_build_object('type', format_type(a.atttypid, a.atttypmod), 'collation', a.attcollation::regcollation::text,
                             'attoptions', array(select o from unnest(a.attoptions) o where split_part(o, '=', 1) <> 'pg_attver'),
                             'place', row_number() over (partition by a.attrelid order by a.attnum))
  from rel c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
union all
select 'constraint', coalesce(c.relname, t.typname) || ' ' || k.conname,
       to_jsonb(k) - '{oid,connamespace,conrelid,contypid,conindid,conparentid,confrelid,conkey,confkey,conpfeqop,conppeqop,conffeqop,confdelsetcols,conexclop,conbin}'::text[]
       || jsonb_build_object('def', pg_get_constraintdef(k.oid), 'of', (select p.conname from pg_constraint p where p.oid = k.conparentid),
                             'index', (select i.relname from pg_class i where i.oid = k.conindid))
  from pg_constraint k left join pg_class c on c.oid = k.conrelid left join pg_type t on t.oid = k.contypid, here
 where k.connamespace = here.ns
union all
select 'index', c.relname::text,
       to_jsonb(i) - '{indexrelid,indrelid,indkey,indcollation,indclass,indoption,indexprs,indpred,indcheckxmin}'::text[]
       || jsonb_build_object('def', pg_get_indexdef(i.indexrelid),
                             'of', (select p.inhparent::regclass::text from pg_inherits p where p.inhrelid = i.indexrelid))
  from pg_index i join rel c on c.oid = i.indexrelid
union all
select 'trigger', c.relname || ' ' || g.tgname,
       jsonb_build_object('def', pg_get_triggerdef(g.oid), 'enabled', g.tgenabled, 'inherited', g.tgparentid <> 0)
  from pg_trigger g join rel c on c.oid = g.tgrelid where not g.tgisinternal
union all
select 'switched', c.relname::text, to_jsonb(count(*)) from pg_trigger g join rel c on c.oid = g.tgrelid
 where g.tgisinternal and g.tgenabled <> 'O' group by c.relname
union all
select 'rule', c.relname || ' ' || r.rulename, jsonb_build_object('def', pg_get_ruledef(r.oid), 'enabled', r.ev_enabled)
  from pg_rewrite r join rel c on c.oid = r.ev_class
union all
select 'policy', c.relname || ' ' || p.polname, jsonb_build_object('permissive', p.polpermissive, 'command', p.polcmd,
         'using', pg_get_expr(p.polqual, p.polrelid), 'check', pg_get_expr(p.polwithcheck, p.polrelid))
  from pg_policy p join rel c on c.oid = p.polrelid
union all
select 'type', t.typname::text,
       to_jsonb(t) - '{oid,typnamespace,typowner,typrelid,typelem,typarray,typbasetype,typcollation,typdefaultbin,typacl}'::text[]
       || jsonb_build_object('base', format_type(t.typbasetype, t.typtypmod), 'collation', t.typcollation::regcollation::text,
                             'range', (select to_jsonb(array[r.rngsubtype::regtype::text, r.rngcollation::regcollation::text, r.rngcanonical::text, r.rngsubdiff::text])
                                         from pg_range r where r.rngtypid = t.oid))
  from pg_type t, here where t.typnamespace = here.ns
union all
select 'function', p.oid::regprocedure::text, to_jsonb(p) - '{oid,pronamespace,proowner,prolang,provariadic,prorettype,proargtypes,proallargtypes,proargdefaults,protrftypes,prosqlbody,proacl}'::text[]
       || jsonb_build_object('def', case when p.prokind <> 'a' then pg_get_functiondef(p.oid) end)
  from pg_proc p, here where p.pronamespace = here.ns
union all
select 'statistics', e.stxname::text,
       to_jsonb(e) - '{oid,stxrelid,stxnamespace,stxowner,stxkeys,stxexprs}'::text[] || jsonb_build_object('def', pg_get_statisticsobjdef(e.oid))
  from pg_statistic_ext e, here where e.stxnamespace = here.ns
union all
select 'parent', c.relname || ' ' || i.inhseqno, to_jsonb(i.inhparent::regclass::text)
  from pg_inherits i join rel c on c.oid = i.inhrelid
order by 1, 2, 3
