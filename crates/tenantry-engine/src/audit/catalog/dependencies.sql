select distinct w.ev_class::int8 as view, d.refobjid::int8 as relation
  from pg_rewrite w
  join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = w.oid and d.refclassid = 'pg_class'::regclass and d.refobjid <> w.ev_class
  join pg_class c on c.oid = w.ev_class join namespace n on n.oid = c.relnamespace
 where w.rulename = '_RETURN'
