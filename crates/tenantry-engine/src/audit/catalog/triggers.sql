select t.tgrelid::int8 as relation, t.tgname as name, t.tgfoid::int8 as function, false as rule
  from pg_trigger t join pg_class c on c.oid = t.tgrelid join namespace n on n.oid = c.relnamespace where not t.tgisinternal
union all
select w.ev_class::int8, w.rulename, 0, true
  from pg_rewrite w join pg_class c on c.oid = w.ev_class join namespace n on n.oid = c.relnamespace
 where w.rulename <> '_RETURN' and c.relkind in ('r', 'p')
 order by 1, 2
