-- Who changed which row of the tables that ask for it, when, and what stood there before and after. A table asks by a trigger that
-- calls tenantry.note_history(); migrations declare it. It stands with the tenant: who moves or purges one takes it along.

create table if not exists tenantry_private.history (
  tenant uuid not null,
  -- by time, and random below the microsecond: a counter would tell tenants how much others do
  id uuid not null,
  at timestamptz not null,
  table_name text not null,
  row_key jsonb not null,
  act text not null check (act in ('insert', 'update', 'delete')),
  account uuid,
  old jsonb,
  new jsonb,
  primary key (tenant, id)
);
create index if not exists history_row on tenantry_private.history (tenant, table_name, jsonb_hash_extended(row_key, 0), id);

create or replace function tenantry_private.history_id(p_at timestamptz, p_tail bytea) returns uuid
language sql stable
begin atomic
  select encode(timestamptz_send(p_at) || p_tail, 'hex')::uuid;
end;

-- The row says whose it is: migrations over all tenants have no context. Only migrations can make a trigger of it, so nobody has it
-- note rows of a table that is none.
create or replace function tenantry.note_history() returns trigger
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $f$
declare
  v_at timestamptz := clock_timestamp();
  v_old jsonb;
  v_new jsonb;
  v_row jsonb;
  v_key jsonb;
begin
  -- An administrator who may not switch triggers off moves or removes a whole tenant. The application role can't say so: who logged in
  -- is not to be changed.
  if current_setting('tenantry.unnoted', true) = 'on'
     and session_user <> (select d.app_role from tenantry_private.tenant_database d) then
    return null;
  end if;
  if tg_op <> 'INSERT' then
    v_old := to_jsonb(old);
  end if;
  if tg_op <> 'DELETE' then
    v_new := to_jsonb(new);
  end if;
  v_row := coalesce(v_new, v_old);
  select jsonb_object_agg(a.attname, v_row -> a.attname::text) into v_key
    from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any (i.indkey)
   where i.indrelid = tg_relid and i.indisprimary and a.attname <> 'tenant_id';
  if tg_op = 'UPDATE' then
    -- as text: what is equal but for its scale was changed all the same
    select jsonb_object_agg(o.key, o.value), jsonb_object_agg(o.key, n.value) into v_old, v_new
      from jsonb_each(v_old) o join jsonb_each(v_new) n on n.key = o.key
     where o.value::text is distinct from n.value::text;
    if v_new is null then
      return null;
    end if;
  end if;
  insert into tenantry_private.history (tenant, id, at, table_name, row_key, act, account, old, new)
  values ((v_row ->> 'tenant_id')::uuid, tenantry_private.history_id(v_at, substr(uuid_send(gen_random_uuid()), 9)), v_at,
          (select c.relname from pg_class c where c.oid = coalesce(pg_partition_root(tg_relid), tg_relid)),
          coalesce(v_key, '{}'), lower(tg_op), tenantry.account_id(), v_old - 'tenant_id', v_new - 'tenant_id');
  return null;
end $f$;

-- Of the caller's tenant, the latest first: of a table, a row or an account where one is named, before the entry that is named.
create or replace function tenantry.history_list(p_table text, p_key jsonb, p_account uuid, p_before uuid, p_count int4)
returns table (id uuid, at timestamptz, table_name text, row_key text, act text, account uuid, old text, new text)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $f$
#variable_conflict use_column
declare
  v_tenant uuid := tenantry_private.require_admin();
begin
  if p_table is not null and p_key is not null then
    return query select h.id, h.at, h.table_name, h.row_key::text, h.act, h.account, h.old::text, h.new::text
                   from tenantry_private.history h
                  where h.tenant = v_tenant and h.table_name = p_table
                    and jsonb_hash_extended(h.row_key, 0) = jsonb_hash_extended(p_key, 0) and h.row_key = p_key
                    and (p_account is null or h.account = p_account) and (p_before is null or h.id < p_before)
                  order by h.id desc limit p_count;
  else
    return query select h.id, h.at, h.table_name, h.row_key::text, h.act, h.account, h.old::text, h.new::text
                   from tenantry_private.history h
                  where h.tenant = v_tenant and (p_table is null or h.table_name = p_table) and (p_key is null or h.row_key = p_key)
                    and (p_account is null or h.account = p_account) and (p_before is null or h.id < p_before)
                  order by h.id desc limit p_count;
  end if;
end $f$;

-- Takes out what is older, some at a time. Tells how many went.
create or replace function tenantry.history_forget(p_before timestamptz, p_count int4) returns int4
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $f$
declare
  v_tenant uuid := tenantry_private.require_admin();
  v_gone int4;
begin
  perform tenantry.may_write();
  if tenantry.has_role('owner') is not true then
    raise exception using errcode = '42501', message = 'tenantry: only an owner of the tenant can take out its history';
  end if;
  delete from tenantry_private.history h
   where h.tenant = v_tenant
     and h.id in (select o.id from tenantry_private.history o
                   where o.tenant = v_tenant and o.id < tenantry_private.history_id(p_before, decode(repeat('00', 8), 'hex'))
                   order by o.id limit p_count);
  get diagnostics v_gone = row_count;
  return v_gone;
end $f$;

create or replace function tenantry_private.history_purge(p_tenant uuid, p_count int4) returns int4
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $f$
declare
  v_gone int4;
begin
  delete from tenantry_private.history h
   where h.tenant = p_tenant and h.id in (select o.id from tenantry_private.history o where o.tenant = p_tenant order by o.id limit p_count);
  get diagnostics v_gone = row_count;
  return v_gone;
end $f$;
