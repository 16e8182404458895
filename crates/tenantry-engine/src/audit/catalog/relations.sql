select c.oid::int8 as oid, n.nspname as schema, c.relname as name, c.relkind as kind, c.relrowsecurity as row_security,
       c.relforcerowsecurity as forced, c.relowner::int8 as owner, pg_get_userbyid(c.relowner) as owner_name, c.relispartition as is_partition,
       coalesce('security_invoker=true' = any (c.reloptions) or 'security_invoker=on' = any (c.reloptions)
                or 'security_invoker=1' = any (c.reloptions) or 'security_invoker=yes' = any (c.reloptions), false) as security_invoker,
       array(select i.inhparent::int8 from pg_inherits i where i.inhrelid = c.oid) as parents,
       exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e') as of_extension,
       t.attnum as tenant_number, t.attname as tenant_column, t.attnotnull as tenant_not_null, t.atthasdef as tenant_has_default,
       t.type as tenant_type, coalesce(t.updatable, false) as tenant_updatable,
       coalesce(p.s, false) as may_select, coalesce(p.i, false) as may_insert, coalesce(p.u, false) as may_update,
       coalesce(p.d, false) as may_delete, coalesce(p.t, false) as may_truncate, coalesce(p.r, false) as may_reference,
       coalesce(p.g, false) as may_trigger,
       case when c.relkind in ('r', 'p') and c.relacl is not null
            then array(select distinct x.privilege_type from aclexplode(c.relacl) x where x.grantee = 0) else '{}' end as of_public,
       case when c.relkind in ('r', 'p') and t.attnum is not null
            then array(select a.attname from pg_attribute a
                        where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
                          and (a.attidentity <> ''
                               or exists (select from pg_attrdef d where d.adrelid = c.oid and d.adnum = a.attnum
                                           and pg_get_expr(d.adbin, d.adrelid) ~ 'nextval')))
            else '{}' end as counted
  from pg_class c
  join namespace n on n.oid = c.relnamespace
  left join lateral (
    select a.attnum, a.attname, a.attnotnull or ty.typnotnull as attnotnull, a.atthasdef,
           format_type(case when ty.typtype = 'd' then ty.typbasetype else a.atttypid end, null) as type,
           exists (select from acts where has_column_privilege(acts.oid, c.oid, a.attnum, 'update')) as updatable
      from pg_attribute a join pg_type ty on ty.oid = a.atttypid, tenant_names
     where a.attrelid = c.oid and a.attname = any (tenant_names.names) and a.attnum > 0 and not a.attisdropped
     order by array_position(tenant_names.names, a.attname::text) limit 1) t on true
  left join lateral (
    select bool_or(has_any_column_privilege(a.oid, c.oid, 'select')) as s, bool_or(has_any_column_privilege(a.oid, c.oid, 'insert')) as i,
           bool_or(has_any_column_privilege(a.oid, c.oid, 'update')) as u, bool_or(has_table_privilege(a.oid, c.oid, 'delete')) as d,
           bool_or(has_table_privilege(a.oid, c.oid, 'truncate')) as t, bool_or(has_any_column_privilege(a.oid, c.oid, 'references')) as r,
           bool_or(has_table_privilege(a.oid, c.oid, 'trigger')) as g
      from acts a where has_schema_privilege(a.oid, n.oid, 'usage')) p on n.reached
 where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S')
 order by n.nspname, c.relname
