select p.oid::int8 as oid, n.nspname as schema, p.proname as name, p.oid::regprocedure::text as signature, p.proowner::int8 as owner,
       pg_get_userbyid(p.proowner) as owner_name, p.prosecdef as definer, l.lanname as language, p.prosqlbody is not null as atomic,
       coalesce(p.proconfig, '{}') as config, p.provolatile as volatility, p.proleakproof as leakproof,
       case when l.lanname in ('sql', 'plpgsql') then coalesce(pg_get_function_sqlbody(p.oid), p.prosrc) else '' end as source,
       p.pronargs::int4 as arguments, p.pronargdefaults::int4 as defaults, p.prorettype::regtype::text as returns,
       exists (select from pg_depend d where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e') as of_extension,
       n.reached and exists (select from acts a where has_function_privilege(a.oid, p.oid, 'execute') and has_schema_privilege(a.oid, n.oid, 'usage'))
       -- who may call an aggregate calls its functions by the right of the aggregate's owner
       or exists (select from pg_aggregate g join pg_proc whole on whole.oid = g.aggfnoid, acts a
                   where p.oid in (g.aggtransfn, g.aggfinalfn, g.aggcombinefn, g.aggserialfn, g.aggdeserialfn, g.aggmtransfn, g.aggminvtransfn, g.aggmfinalfn)
                     and g.aggfnoid >= 16384 and has_function_privilege(a.oid, g.aggfnoid, 'execute')
                     and has_schema_privilege(a.oid, whole.pronamespace, 'usage')) as callable
  from pg_proc p join namespace n on n.oid = p.pronamespace join pg_language l on l.oid = p.prolang
 order by 4
