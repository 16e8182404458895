-- Everything of one schema that migrations decide, a fact a row: class and name of the object, which fact of it, of what,
-- and its value. The caller's search path begins with the schema, so that definitions name it nowhere; roles that differ from
-- database to database stand by their purpose.
with here as (
  select $1::text::regnamespace::oid as ns
), party as (
  select 0::oid as oid, 'public' as name
  union all
  select r.oid, case r.rolname when $2 then '@owner' when $3 then '@application' when $4 then '@mover' else quote_ident(r.rolname) end
    from pg_roles r
), rel as (
  select c.*, case c.relkind when 'v' then 'view' when 'S' then 'sequence' else 'table' end as class
    from pg_class c, here
   where c.relnamespace = here.ns and c.relkind in ('r', 'p', 'f', 'm', 'v', 'S')
), routine as (
  select p.*, format('%I(%s)', p.proname, pg_get_function_identity_arguments(p.oid)) as signature
    from pg_proc p, here
   where p.pronamespace = here.ns
     and not exists (select from pg_depend d where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype in ('i', 'e'))
), kind as (
  select t.* from pg_type t, here
   where t.typnamespace = here.ns and t.typtype in ('e', 'd', 'c', 'r')
     and (t.typrelid = 0 or exists (select from pg_class c where c.oid = t.typrelid and c.relkind = 'c'))
), object as (
  select 'pg_class'::regclass::oid as catalog, oid, class, relname::text as name, relowner as owner, relacl as acl,
         acldefault(case relkind when 'S' then 's' else 'r' end::"char", relowner) as usual from rel
  union all
  select 'pg_proc'::regclass, oid, 'function', signature, proowner, proacl, acldefault('f', proowner) from routine
  union all
  select 'pg_type'::regclass, oid, 'type', typname, typowner, typacl, acldefault('T', typowner) from kind
  union all
  select 'pg_namespace'::regclass, n.oid, 'schema', '', n.nspowner, n.nspacl, acldefault('n', n.nspowner)
    from pg_namespace n, here where n.oid = here.ns
)
select c.class, c.relname::text, 'itself', '', jsonb_build_object(
         'kind', c.relkind,
         'unlogged', c.relpersistence = 'u',
         'bound', pg_get_expr(c.relpartbound, c.oid),
         'partition_key', case when c.relkind = 'p' then pg_get_partkeydef(c.oid) end,
         'parents', coalesce((select jsonb_agg(i.inhparent::regclass::text order by i.inhseqno) from pg_inherits i where i.inhrelid = c.oid), '[]'))
  from rel c where c.class = 'table'
union all
select c.class, c.relname, 'row_security', '', jsonb_build_object('enabled', c.relrowsecurity, 'forced', c.relforcerowsecurity)
  from rel c where c.relkind in ('r', 'p')
union all
select c.class, c.relname, 'options', '', (select jsonb_agg(o order by o) from unnest(c.reloptions) o)
  from rel c where c.reloptions is not null
union all
select c.class, c.relname, 'column', a.attname, jsonb_build_object(
         'type', format_type(a.atttypid, a.atttypmod),
         'not_null', a.attnotnull,
         'default', pg_get_expr(d.adbin, d.adrelid),
         'identity', a.attidentity,
         'generated', a.attgenerated,
         'collation', (select l.oid::regcollation::text from pg_collation l join pg_type t on t.oid = a.atttypid
                        where l.oid = a.attcollation and l.oid <> t.typcollation),
         'local', a.attislocal)
  from rel c
  join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
  left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
 where c.class = 'table'
union all
select 'table', c.relname, 'constraint', k.conname, jsonb_build_object('def', pg_get_constraintdef(k.oid, true))
  from pg_constraint k join rel c on c.oid = k.conrelid
 where k.contype in ('c', 'f', 'p', 'u', 'x') and k.conparentid = 0 and k.conislocal
union all
select 'table', t.relname, 'index', c.relname, jsonb_build_object(
         'def', pg_get_indexdef(i.indexrelid, 0, true), 'valid', i.indisvalid, 'unique', i.indisunique, 'partitioned', c.relkind = 'I')
  from pg_index i join pg_class c on c.oid = i.indexrelid join rel t on t.oid = i.indrelid
 where not c.relispartition
   and not exists (select from pg_constraint k where k.conindid = i.indexrelid and k.contype in ('p', 'u', 'x'))
union all
select 'table', c.relname, 'trigger', g.tgname, jsonb_build_object('def', pg_get_triggerdef(g.oid, true), 'enabled', g.tgenabled)
  from pg_trigger g join rel c on c.oid = g.tgrelid where not g.tgisinternal and g.tgparentid = 0
union all
select 'table', c.relname, 'policy', p.polname, jsonb_build_object(
         'permissive', p.polpermissive, 'command', p.polcmd,
         'roles', (select jsonb_agg(r.name order by r.name) from unnest(p.polroles) o join party r on r.oid = o),
         'using', pg_get_expr(p.polqual, p.polrelid), 'check', pg_get_expr(p.polwithcheck, p.polrelid))
  from pg_policy p join rel c on c.oid = p.polrelid
union all
select c.class, c.relname, 'rule', r.rulename, jsonb_build_object('def', pg_get_ruledef(r.oid, true))
  from pg_rewrite r join rel c on c.oid = r.ev_class where r.rulename <> '_RETURN'
union all
select 'view', c.relname, 'itself', '', jsonb_build_object('def', pg_get_viewdef(c.oid), 'columns',
         (select jsonb_agg(a.attname order by a.attnum) from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped))
  from rel c where c.relkind = 'v'
union all
select 'view', c.relname, 'default', a.attname, jsonb_build_object('default', pg_get_expr(d.adbin, d.adrelid))
  from rel c join pg_attribute a on a.attrelid = c.oid join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
 where c.relkind = 'v'
union all
select 'sequence', c.relname, 'itself', '', jsonb_build_object(
         'type', format_type(s.seqtypid, null), 'start', s.seqstart, 'increment', s.seqincrement, 'max', s.seqmax, 'min', s.seqmin,
         'cache', s.seqcache, 'cycle', s.seqcycle,
         'owned_by', (select format('%s.%I', d.refobjid::regclass, a.attname)
                        from pg_depend d join pg_attribute a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid
                       where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.objsubid = 0
                         and d.refclassid = 'pg_class'::regclass and d.deptype in ('a', 'i')),
         'identity', exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.objsubid = 0 and d.deptype = 'i'))
  from pg_sequence s join rel c on c.oid = s.seqrelid
union all
select 'type', t.typname, 'itself', '', jsonb_build_object(
         'kind', t.typtype,
         'labels', coalesce((select jsonb_agg(e.enumlabel order by e.enumsortorder) from pg_enum e where e.enumtypid = t.oid), '[]'),
         'base', case when t.typtype = 'd' then format_type(t.typbasetype, t.typtypmod) end,
         'default', t.typdefault,
         'not_null', t.typnotnull,
         'checks', coalesce((select jsonb_agg(jsonb_build_object('name', k.conname, 'def', pg_get_constraintdef(k.oid, true)) order by k.conname)
                               from pg_constraint k where k.contypid = t.oid and k.contype = 'c'), '[]'),
         'attributes', coalesce((select jsonb_agg(jsonb_build_object('name', a.attname, 'type', format_type(a.atttypid, a.atttypmod)) order by a.attnum)
                                   from pg_attribute a where a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped and t.typtype = 'c'), '[]'))
  from kind t
union all
select 'function', p.signature, 'itself', '', jsonb_build_object(
         'kind', p.prokind,
         'def', case when p.prokind = 'a' then (select to_jsonb(a)::text from (
                  select g.aggtransfn::text, g.aggfinalfn::text, g.aggtranstype::regtype::text, g.agginitval, g.aggsortop::text
                    from pg_aggregate g where g.aggfnoid = p.oid) a)
                else 'create or replace' || substr(
                  replace(pg_get_functiondef(p.oid), format(' %I.%I(', (select nspname from pg_namespace n, here where n.oid = here.ns), p.proname),
                          format(' %I(', p.proname)), 18) end)
  from routine p
union all
select 'table', t.relname, 'statistics', e.stxname, jsonb_build_object('def',
         replace(pg_get_statisticsobjdef(e.oid), format('%I.%I', n.nspname, e.stxname), quote_ident(e.stxname)))
  from pg_statistic_ext e join rel t on t.oid = e.stxrelid join pg_namespace n on n.oid = e.stxnamespace
union all
select o.class, o.name, 'owner', '', to_jsonb(r.name) from object o join party r on r.oid = o.owner
union all
select o.class, o.name, 'grant', r.name, jsonb_agg(x.privilege_type || case when x.is_grantable then ' with grant option' else '' end order by x.privilege_type)
  from object o, aclexplode(coalesce(o.acl, o.usual)) x join party r on r.oid = x.grantee
 where x.grantee <> o.owner
 group by o.class, o.name, r.name
union all
select c.class, c.relname, 'column_grant', r.name || ' ' || x.privilege_type, jsonb_agg(a.attname order by a.attname)
  from rel c
  join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attacl is not null,
       aclexplode(a.attacl) x join party r on r.oid = x.grantee
 where x.grantee <> c.relowner
 group by c.class, c.relname, r.name, x.privilege_type
union all
select o.class, o.name, 'comment', '', to_jsonb(d.description)
  from object o join pg_description d on d.classoid = o.catalog and d.objoid = o.oid and d.objsubid = 0
 where o.class <> 'schema'
union all
select c.class, c.relname, 'comment', 'column ' || quote_ident(a.attname), to_jsonb(d.description)
  from rel c
  join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
  join pg_description d on d.classoid = 'pg_class'::regclass and d.objoid = c.oid and d.objsubid = a.attnum
union all
select 'table', c.relname, 'comment', 'index ' || quote_ident(x.relname), to_jsonb(d.description)
  from rel c join pg_index i on i.indrelid = c.oid join pg_class x on x.oid = i.indexrelid
  join pg_description d on d.classoid = 'pg_class'::regclass and d.objoid = x.oid and d.objsubid = 0
union all
select 'table', c.relname, 'comment', 'constraint ' || quote_ident(k.conname), to_jsonb(d.description)
  from rel c join pg_constraint k on k.conrelid = c.oid
  join pg_description d on d.classoid = 'pg_constraint'::regclass and d.objoid = k.oid and d.objsubid = 0
union all
select 'table', c.relname, 'comment', 'trigger ' || quote_ident(g.tgname), to_jsonb(d.description)
  from rel c join pg_trigger g on g.tgrelid = c.oid
  join pg_description d on d.classoid = 'pg_trigger'::regclass and d.objoid = g.oid and d.objsubid = 0
