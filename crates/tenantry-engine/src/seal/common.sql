-- Readers that are the same in both tiers, and the fence.

-- Who acts, for policies inside a tenant and for triggers. An ordinary setting: no boundary between tenants rests on it.
create or replace function tenantry.account_id() returns uuid language sql stable parallel safe
begin atomic
  select nullif(current_setting('tenantry.account', true), '')::uuid;
end;

-- An older snapshot would compile another session's fence away.
create or replace function tenantry_private.lock_fence() returns tenantry_private.tenant_database
language plpgsql volatile set search_path = pg_catalog, pg_temp as $f$
declare
  v_database tenantry_private.tenant_database;
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception using errcode = '25001', message = 'tenantry: the fence needs read committed';
  end if;
  select * into v_database from tenantry_private.tenant_database for update;
  return v_database;
end $f$;

create or replace function tenantry.fence_register(p_tenant uuid, p_epoch int8, p_state int2) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $f$
begin
  if p_state not in (0, 4) then
    raise exception using errcode = '22023', message = 'tenantry: a tenant is registered open (0) or not open yet (4)';
  end if;
  insert into tenantry_private.fence (tenant, epoch, state) values (p_tenant, p_epoch, p_state) on conflict do nothing;
  if found then
    return;
  end if;
  perform tenantry_private.lock_fence();
  -- Back after it was gone: a later placement. The compiled entry stays until it is opened.
  update tenantry_private.fence set epoch = p_epoch, state = 4 where tenant = p_tenant and epoch < p_epoch and state in (2, 4);
  if found then
    if p_state = 0 then
      perform tenantry.fence_open(p_tenant, p_epoch);
    end if;
    return;
  end if;
  perform from tenantry_private.fence where tenant = p_tenant and epoch = p_epoch and state = p_state;
  if not found then
    raise exception using errcode = 'TN001', message = 'tenantry: the tenant has a placement here that is as new or still open';
  end if;
end $f$;

-- States 1 (moving), 2 (gone) and 3 (suspended). One transaction: no new bindings, and the compiled form for the old ones.
create or replace function tenantry.fence_close(p_tenant uuid, p_epoch int8, p_state int2) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $f$
declare
  v_compiled boolean;
begin
  if p_state not in (1, 2, 3) then
    raise exception using errcode = '22023', message = 'tenantry: a tenant is closed as moving (1), gone (2) or suspended (3)';
  end if;
  perform tenantry_private.lock_fence();
  select fenced_at is not null into v_compiled from tenantry_private.fence where tenant = p_tenant and epoch = p_epoch for update;
  if not found then
    raise exception using errcode = 'TN001', message = 'tenantry: the tenant has no such placement in this database';
  end if;
  update tenantry_private.fence
     set state = p_state,
         settled_at = case when v_compiled then settled_at end,
         fenced_at = coalesce(fenced_at, clock_timestamp())
   where tenant = p_tenant;
  if not v_compiled then
    perform tenantry_private.compile_fence();
  end if;
end $f$;

-- In a transaction after the one that closed the fence committed: a backend that starts from now on finds it closed.
create or replace function tenantry.fence_settle(p_tenant uuid) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $f$
begin
  perform tenantry_private.lock_fence();
  update tenantry_private.fence set settled_at = clock_timestamp()
   where tenant = p_tenant and fenced_at is not null and settled_at is null;
end $f$;

-- Whether every connection of the application role started after that moment. Unknown counts as before.
create or replace function tenantry_private.no_older_backend(p_moment timestamptz) returns boolean
language sql volatile
begin atomic
  select not exists (
    select from pg_stat_get_activity(null) a, tenantry_private.tenant_database d
     where a.usesysid = (select r.oid from pg_roles r where r.rolname = d.app_role)
       and a.datid = (select b.oid from pg_database b where b.datname = current_database())
       and (a.backend_start >= p_moment) is not true);
end;

create or replace function tenantry.fence_open(p_tenant uuid, p_epoch int8) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $f$
declare
  v_fence tenantry_private.fence;
begin
  perform tenantry_private.lock_fence();
  select * into v_fence from tenantry_private.fence where tenant = p_tenant for update;
  if not found or v_fence.epoch > p_epoch then
    raise exception using errcode = 'TN001', message = 'tenantry: the tenant has no such placement in this database';
  end if;
  -- A connection bound at the old placement would be let in again, with its old search path.
  if v_fence.fenced_at is not null and (v_fence.epoch < p_epoch or v_fence.state = 4)
     and not coalesce(tenantry_private.no_older_backend(v_fence.settled_at), false) then
    raise exception using errcode = '55000', message = 'tenantry: connections from before the fence are still there: end them first';
  end if;
  update tenantry_private.fence set state = 0, epoch = p_epoch, fenced_at = null, settled_at = null where tenant = p_tenant;
  if v_fence.fenced_at is not null then
    perform tenantry_private.compile_fence();
  end if;
end $f$;

create or replace function tenantry.fence_state(p_tenant uuid, out epoch int8, out state int2, out compiled boolean)
language sql volatile security definer set search_path = pg_catalog, pg_temp
begin atomic
  select f.epoch, f.state, f.fenced_at is not null from tenantry_private.fence f where f.tenant = p_tenant;
end;

-- The application role's open transactions in this database, prepared ones too. Locks are read before prepared
-- transactions: one that is being prepared shows in the second before it leaves the first.
create or replace function tenantry.fence_transactions() returns table (id text, pid int4)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $f$
declare
  v_app_role name := (select d.app_role from tenantry_private.tenant_database d);
begin
  return query
    select l.virtualxid, l.pid
      from pg_locks l join pg_stat_get_activity(null) a on a.pid = l.pid
     where l.locktype = 'virtualxid' and l.granted and l.mode = 'ExclusiveLock'
       and a.usesysid = (select r.oid from pg_roles r where r.rolname = v_app_role)
       and a.datid = (select b.oid from pg_database b where b.datname = current_database());
  return query
    select 'prepared ' || p.gid, 0 from pg_prepared_xacts p
     where p.database = current_database() and p.owner = v_app_role;
end $f$;

-- Ends the sessions that hold these transactions of the application role.
create or replace function tenantry.fence_terminate(p_ids text[]) returns int4
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $f$
declare
  v_pid int4;
  v_ended int4 := 0;
begin
  -- A loop and no `where`: the planner may evaluate conditions in any order.
  for v_pid in select t.pid from tenantry.fence_transactions() t where t.id = any (p_ids) and t.pid <> 0 loop
    if pg_terminate_backend(v_pid) then
      v_ended := v_ended + 1;
    end if;
  end loop;
  return v_ended;
end $f$;

-- A closed tenant leaves the compiled form once no connection can be bound from before; its row refuses new ones for ever.
create or replace function tenantry.fence_forget() returns int4
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $f$
declare
  v_forgotten int4;
begin
  perform tenantry_private.lock_fence();
  update tenantry_private.fence f set fenced_at = null, settled_at = null
   where f.fenced_at is not null and f.state <> 0
     and f.settled_at is not null and tenantry_private.no_older_backend(f.settled_at);
  get diagnostics v_forgotten = row_count;
  if v_forgotten > 0 then
    perform tenantry_private.compile_fence();
  end if;
  return v_forgotten;
end $f$;

-- How far this server's log is: written, on a primary; replayed, on a standby. A number of the whole server, so it is told to
-- the holder of the key only.
create or replace function tenantry.log_position(p_msg bytea, p_mac bytea, out standby boolean, out reached int8)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $f$
begin
  perform tenantry_private.require_worker(p_msg, p_mac);
  standby := pg_is_in_recovery();
  -- Where the next record begins: behind every commit that was answered, whether or not it is on disk.
  reached := case when standby then pg_last_wal_replay_lsn() else pg_current_wal_insert_lsn() end - '0/0'::pg_lsn;
end $f$;

revoke all on all functions in schema tenantry, tenantry_private from public;
revoke all on all tables in schema tenantry_private from public;
