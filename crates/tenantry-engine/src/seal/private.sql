-- What only the mechanism's owner may read: keys, the fence, and which database this is.
create table if not exists tenantry_private.tenant_database (
  -- one row; locked by whoever changes the fence, since nobody else can reach this table to hold the lock against us
  one boolean primary key default true check (one),
  installation text not null,
  database_id uuid not null,
  app_role name not null,
  tier text not null check (tier in ('sealed', 'signed')),
  version int4 not null,
  -- the very database: a restored or cloned one differs in one of these
  system_identifier int8 not null,
  database_oid oid not null,
  -- behind a foreign pooler in transaction mode the backend is unknown to the signer
  pooled boolean not null default false,
  bootstrapped_at timestamptz not null default now()
);
create table if not exists tenantry_private.mac_key (
  kid int4 primary key check (kid between 0 and 255),
  -- the key xor the inner and the outer pad of HMAC (RFC 2104), precomputed
  ik bytea not null check (length(ik) = 64),
  ok bytea not null check (length(ok) = 64),
  -- compared in each binding: a clone on the same server has another name and refuses its original's tokens at once
  database_name name not null,
  created_at timestamptz not null default clock_timestamp()
);
create table if not exists tenantry_private.fence (
  tenant uuid primary key,
  epoch int8 not null check (epoch > 0),
  -- 0 open, 1 moving, 2 gone, 3 suspended, 4 not open yet
  state int2 not null check (state between 0 and 4),
  -- not null: compiled into tenant_id()
  fenced_at timestamptz,
  -- after the fence's commit: a backend that started later cannot be bound from before
  settled_at timestamptz
) with (fillfactor = 50);
-- Which migrations a schema has (`migrate::ledger`).
create table if not exists tenantry_private.migration (
  schema text not null,
  version int8 not null,
  name text not null,
  checksum text not null,
  engine_version text not null,
  duration_ms int8 not null,
  applied_at timestamptz not null default clock_timestamp(),
  primary key (schema, version)
);
-- How far a migration is that can't run in one transaction.
create table if not exists tenantry_private.migration_step (
  schema text not null,
  version int8 not null,
  done int4 not null,
  primary key (schema, version)
);
-- Of which text that is true; null where a program before version 9 noted it.
alter table tenantry_private.migration_step add column if not exists checksum text;
-- Which tenants have a migration of their data.
create table if not exists tenantry_private.migration_tenant (
  schema text not null,
  version int8 not null,
  tenant uuid not null,
  applied_at timestamptz not null default clock_timestamp(),
  primary key (schema, version, tenant)
);

-- Where this backend runs, as a part of what is signed: nothing on a primary; on a standby, which has the same keys and may have
-- a backend of the same number, when its server started. A token for one is worth nothing at the other, nor at the standby
-- after it was promoted or started again.
create or replace function tenantry_private.place() returns bytea
language sql volatile
begin atomic
  select case when pg_is_in_recovery() then timestamptz_send(pg_postmaster_start_time()) else ''::bytea end;
end;

-- Whether the token is genuine, of this database, for this backend and still accepted.
create or replace function tenantry_private.is_genuine(p_msg bytea, p_mac bytea, p_pid bytea) returns boolean
language sql volatile
begin atomic
  select exists (
    select from tenantry_private.mac_key m
     where m.kid = get_byte(p_msg, 37)
       and m.database_name = current_database()
       and sha256(m.ok || sha256(m.ik || p_msg || tenantry_private.place())) = p_mac
       and substr(p_msg, 26, 8) > timestamptz_send(clock_timestamp())
       and substr(p_msg, 26, 8) < timestamptz_send(clock_timestamp() + interval '60 s')
       and substr(p_msg, 34, 4) = p_pid);
end;

-- Says why a token was not accepted. What the fence holds is told to the holder of a genuine token only.
create or replace function tenantry_private.refuse(p_msg bytea, p_mac bytea, p_pid bytea) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $f$
declare
  v_fence tenantry_private.fence;
begin
  if octet_length(p_msg) is distinct from 58 or p_mac is null or not tenantry_private.is_genuine(p_msg, p_mac, p_pid) then
    raise exception using errcode = '28000', message = 'tenantry: token rejected';
  end if;
  select * into v_fence from tenantry_private.fence where tenant = encode(substr(p_msg, 1, 16), 'hex')::uuid;
  if v_fence.tenant is null or v_fence.state = 2 then
    raise exception using errcode = 'TN001', message = 'tenantry: the tenant does not live in this database: look its placement up again';
  elsif v_fence.state = 3 then
    raise exception using errcode = 'TN002', message = 'tenantry: the tenant is suspended';
  elsif v_fence.state in (1, 4) then
    raise exception using errcode = 'TN003', message = 'tenantry: the tenant is moving: wait and try again';
  elsif substr(p_msg, 55, 4) <> substr(int8send(v_fence.epoch), 5, 4) then
    raise exception using errcode = 'TN001', message = 'tenantry: the placement is out of date: look it up again';
  end if;
  raise exception using errcode = '28000', message = 'tenantry: token rejected',
    detail = 'The session is bound by a newer token, by the raw lane, or was reset: discard all and bind it with a fresh token.';
end $f$;

-- Migrations of data reach tenants that nobody may enter: suspended ones, and those on their way here. The administrator's
-- transaction acts for the tenant without a token; what closes the fence is lifted in this transaction, which holds the
-- fence's lock, and `act_done` puts it back before the commit: no other session ever sees it open.
create or replace function tenantry_private.act_for(p_tenant uuid) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $f$
declare
  v_fence tenantry_private.fence;
begin
  select * into v_fence from tenantry_private.fence where tenant = p_tenant;
  if v_fence.state in (1, 2) then
    raise exception using errcode = 'TN003', message = 'tenantry: the tenant is moving or has moved: migrate its data where it lives then';
  end if;
  perform set_config('tenantry.lifted', '', true);
  if v_fence.tenant is null then
    insert into tenantry_private.fence (tenant, epoch, state) values (p_tenant, 1, 0);
    perform set_config('tenantry.lifted', 'absent', true);
  elsif v_fence.state <> 0 or v_fence.fenced_at is not null then
    perform tenantry_private.lock_fence();
    update tenantry_private.fence set state = 0, fenced_at = null where tenant = p_tenant;
    if v_fence.fenced_at is not null then
      perform tenantry_private.compile_fence();
    end if;
    perform set_config('tenantry.lifted', v_fence.state || ' ' || coalesce(v_fence.fenced_at::text, 'infinity'), true);
  end if;
  perform tenantry_private.carry(replace(p_tenant::text, '-', '') || '0000000000000000' || '30');
end $f$;

create or replace function tenantry_private.act_done(p_tenant uuid) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $f$
declare
  v_lifted text := current_setting('tenantry.lifted');
  v_fenced_at timestamptz;
begin
  perform tenantry_private.carry('');
  if v_lifted = 'absent' then
    delete from tenantry_private.fence where tenant = p_tenant;
  elsif v_lifted <> '' then
    v_fenced_at := nullif(substr(v_lifted, 3)::timestamptz, 'infinity');
    update tenantry_private.fence set state = left(v_lifted, 1)::int2, fenced_at = v_fenced_at where tenant = p_tenant;
    if v_fenced_at is not null then
      perform tenantry_private.compile_fence();
    end if;
  end if;
  perform set_config('tenantry.lifted', '', true);
end $f$;

-- Whoever forgets `act_done` does not commit: a fence that was lifted would stay so. `tenantry.settling` says that the
-- application's deferred constraints are being checked in the context, with `act_done` still to come in the same message.
create or replace function tenantry_private.refuse_lifted_fence() returns trigger
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $f$
begin
  if coalesce(current_setting('tenantry.settling', true), '') <> 'on'
     and exists (select from tenantry_private.fence where tenant = new.tenant and fenced_at is null and settled_at is not null) then
    raise exception using errcode = '55000', message = 'tenantry: the fence was lifted by act_for and not put back by act_done';
  end if;
  return null;
end $f$;
do $$ begin
  if not exists (select from pg_trigger where tgrelid = 'tenantry_private.fence'::regclass and tgname = 'fence_is_not_left_lifted') then
    create constraint trigger fence_is_not_left_lifted after update on tenantry_private.fence deferrable initially deferred
      for each row when (new.fenced_at is null and new.settled_at is not null)
      execute function tenantry_private.refuse_lifted_fence();
  end if;
end $$;

create or replace function tenantry_private.key_add(p_kid int4, p_ik bytea, p_ok bytea) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $f$
begin
  perform from tenantry_private.tenant_database for update;
  if exists (select from tenantry_private.mac_key where kid = p_kid and ik = p_ik and ok = p_ok and database_name = current_database()) then
    return;
  end if;
  if (select count(*) from tenantry_private.mac_key) >= 2 then
    raise exception using errcode = '55000', message = 'tenantry: two keys are live already: retire the older one first';
  end if;
  insert into tenantry_private.mac_key (kid, ik, ok, database_name) values (p_kid, p_ik, p_ok, current_database());
end $f$;

create or replace function tenantry_private.key_retire(p_kid int4) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $f$
declare
  v_stays int4;
begin
  perform from tenantry_private.tenant_database for update;
  select kid into v_stays from tenantry_private.mac_key where kid <> p_kid order by created_at desc limit 1;
  if found then
    perform tenantry_private.job_sign_again(p_kid, v_stays);
    perform tenantry_private.schedule_sign_again(p_kid, v_stays);
  end if;
  delete from tenantry_private.mac_key where kid = p_kid;
  return found;
end $f$;

create or replace function tenantry_private.key_ids() returns setof int4
language sql volatile security definer set search_path = pg_catalog, pg_temp
begin atomic
  select kid from tenantry_private.mac_key order by created_at, kid;
end;

create or replace function tenantry_private.allow_pooled(p_allow boolean) returns void
language sql volatile security definer set search_path = pg_catalog, pg_temp
begin atomic
  update tenantry_private.tenant_database set pooled = p_allow;
end;

-- Whether this is the very database that the keys were made for.
create or replace function tenantry.check_identity() returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $f$
begin
  perform from tenantry_private.tenant_database d
    where d.system_identifier = (select system_identifier from pg_control_system())
      and d.database_oid = (select oid from pg_database where datname = current_database())
      and not exists (select from tenantry_private.mac_key m where m.database_name <> current_database());
  if not found then
    raise exception using errcode = '28000', message = 'tenantry: this database is a copy of another: bootstrap it again, so that it gets keys of its own';
  end if;
end $f$;
