-- Everything in one schema, as one JSON document. The caller's search path begins with the schema, so that names stand without it.
with here as (
  select $1::text::regnamespace::oid as ns
), rel as (
  select c.* from pg_class c, here where c.relnamespace = here.ns
)
select jsonb_build_object(
  'tables', coalesce((
    select jsonb_object_agg(c.oid::text, jsonb_build_object(
      'name', c.relname,
      'quoted', c.oid::regclass::text,
      'kind', c.relkind,
      'unlogged', c.relpersistence = 'u',
      'is_partition', c.relispartition,
      'bound', pg_get_expr(c.relpartbound, c.oid),
      'partition_key', case when c.relkind = 'p' then pg_get_partkeydef(c.oid) end,
      'parents', coalesce((select jsonb_agg(i.inhparent::int8 order by i.inhseqno) from pg_inherits i where i.inhrelid = c.oid), '[]'),
      'options', coalesce(to_jsonb(c.reloptions), '[]'),
      'comment', obj_description(c.oid, 'pg_class'),
      'typed', c.reloftype <> 0,
      'rules', (select count(*) from pg_rewrite r where r.ev_class = c.oid),
      'columns', coalesce((
        select jsonb_agg(jsonb_build_object(
          'num', a.attnum,
          'name', a.attname,
          'type', format_type(a.atttypid, a.atttypmod),
          'not_null', a.attnotnull,
          'default', pg_get_expr(d.adbin, d.adrelid),
          'default_oid', coalesce(d.oid, 0)::int8,
          'identity', a.attidentity,
          'generated', a.attgenerated,
          'collation', (select l.oid::regcollation::text from pg_collation l join pg_type t on t.oid = a.atttypid
                         where l.oid = a.attcollation and l.oid <> t.typcollation),
          'missing', a.atthasmissing,
          'local', a.attislocal,
          'inherited', a.attinhcount > 0,
          'comment', col_description(c.oid, a.attnum)
        ) order by a.attnum)
        from pg_attribute a left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
        where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped), '[]')
    )) from rel c where c.relkind in ('r', 'p', 'f', 'm')), '{}'),
  'constraints', coalesce((
    select jsonb_object_agg(k.oid::text, jsonb_build_object(
      'name', k.conname,
      'table', k.conrelid::int8,
      'kind', k.contype,
      'def', pg_get_constraintdef(k.oid, true),
      'index', k.conindid::int8,
      'columns', coalesce(to_jsonb(k.conkey), '[]'),
      'target', k.confrelid::int8,
      'target_columns', coalesce(to_jsonb(k.confkey), '[]'),
      'on_update', k.confupdtype,
      'on_delete', k.confdeltype,
      'delete_columns', coalesce(to_jsonb(k.confdelsetcols), '[]'),
      'match', k.confmatchtype,
      'deferrable', k.condeferrable,
      'deferred', k.condeferred,
      'validated', k.convalidated,
      'inherited', k.conparentid <> 0 or not k.conislocal
    )) from pg_constraint k, here where k.connamespace = here.ns and k.contypid = 0 and k.contype in ('c', 'f', 'p', 'u', 'x')), '{}'),
  'indexes', coalesce((
    select jsonb_object_agg(i.indexrelid::text, jsonb_build_object(
      'name', c.relname,
      'quoted', quote_ident(c.relname),
      'table', i.indrelid::int8,
      'unique', i.indisunique,
      'method', m.amname,
      'def', pg_get_indexdef(i.indexrelid, 0, true),
      'keys', (select jsonb_agg(k.attnum order by k.n) from unnest(i.indkey::int2[]) with ordinality k(attnum, n) where k.n <= i.indnkeyatts),
      'partial', i.indpred is not null,
      'constraint', exists (select from pg_constraint k where k.conindid = i.indexrelid and k.contype in ('p', 'u', 'x')),
      'inherited', c.relispartition
    )) from pg_index i join rel c on c.oid = i.indexrelid join pg_am m on m.oid = c.relam), '{}'),
  'sequences', coalesce((
    select jsonb_object_agg(c.oid::text, jsonb_build_object(
      'name', c.relname,
      'type', format_type(s.seqtypid, null),
      'start', s.seqstart, 'increment', s.seqincrement, 'max', s.seqmax, 'min', s.seqmin, 'cache', s.seqcache, 'cycle', s.seqcycle,
      'owner', (select jsonb_build_object('table', d.refobjid::int8, 'column', d.refobjsubid, 'identity', d.deptype = 'i')
                  from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.objsubid = 0
                   and d.refclassid = 'pg_class'::regclass and d.deptype in ('a', 'i'))
    )) from pg_sequence s join rel c on c.oid = s.seqrelid), '{}'),
  'views', coalesce((
    select jsonb_object_agg(c.oid::text, jsonb_build_object(
      'name', c.relname,
      'def', pg_get_viewdef(c.oid),
      'options', coalesce(to_jsonb(c.reloptions), '[]'),
      'stamp', (select r.xmin::text from pg_rewrite r where r.ev_class = c.oid and r.rulename = '_RETURN'),
      'rules', (select count(*) - 1 from pg_rewrite r where r.ev_class = c.oid),
      'comment', obj_description(c.oid, 'pg_class'),
      'columns', (select jsonb_agg(jsonb_build_object('num', a.attnum, 'name', a.attname, 'default', pg_get_expr(d.adbin, d.adrelid)) order by a.attnum)
                    from pg_attribute a left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
                   where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped)
    )) from rel c where c.relkind = 'v'), '{}'),
  'types', coalesce((
    select jsonb_object_agg(t.oid::text, jsonb_build_object(
      'name', t.typname,
      'kind', t.typtype,
      'labels', coalesce((select jsonb_agg(jsonb_build_object('oid', e.oid::int8, 'label', e.enumlabel) order by e.enumsortorder) from pg_enum e where e.enumtypid = t.oid), '[]'),
      'base', case when t.typtype = 'd' then format_type(t.typbasetype, t.typtypmod) end,
      'default', t.typdefault,
      'not_null', t.typnotnull,
      'checks', coalesce((select jsonb_agg(jsonb_build_object('oid', k.oid::int8, 'name', k.conname, 'def', pg_get_constraintdef(k.oid, true), 'validated', k.convalidated) order by k.oid)
                            from pg_constraint k where k.contypid = t.oid and k.contype = 'c'), '[]'),
      'attributes', coalesce((select jsonb_agg(jsonb_build_object('num', a.attnum, 'name', a.attname, 'type', format_type(a.atttypid, a.atttypmod)) order by a.attnum)
                                from pg_attribute a where a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped and t.typtype = 'c'), '[]')
    )) from pg_type t, here
      where t.typnamespace = here.ns and t.typtype in ('e', 'd', 'c', 'r')
        and (t.typrelid = 0 or exists (select from pg_class c where c.oid = t.typrelid and c.relkind = 'c'))), '{}'),
  'functions', coalesce((
    select jsonb_object_agg(p.oid::text, jsonb_build_object(
      'name', p.proname,
      'quoted', quote_ident(p.proname),
      'kind', p.prokind,
      'identity', pg_get_function_identity_arguments(p.oid),
      'definer', p.prosecdef,
      'leakproof', p.proleakproof,
      'settings', coalesce(to_jsonb(p.proconfig), '[]'),
      'source', p.prosrc,
      'stamp', p.xmin::text,
      'def', case when p.prokind <> 'a' then pg_get_functiondef(p.oid) end
    )) from pg_proc p, here where p.pronamespace = here.ns
        and not exists (select from pg_depend d where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'i')), '{}'),
  'triggers', coalesce((
    select jsonb_object_agg(g.oid::text, jsonb_build_object(
      'name', g.tgname,
      'table', g.tgrelid::int8,
      'def', pg_get_triggerdef(g.oid, true),
      'inherited', g.tgparentid <> 0
    )) from pg_trigger g join rel c on c.oid = g.tgrelid where not g.tgisinternal), '{}'),
  'policies', coalesce((
    select jsonb_object_agg(p.oid::text, jsonb_build_object(
      'name', p.polname,
      'table', p.polrelid::int8,
      'permissive', p.polpermissive
    )) from pg_policy p join rel c on c.oid = p.polrelid), '{}')
)::text
