-- A database as many teams make it multi-tenant: the tenant in a plain setting, row security enabled and not forced, keys
-- as they were, views and functions of the tables' owner, everything granted, PUBLIC as PostgreSQL makes it. Each program
-- says what it needs beyond that.
create schema app authorization {owner};
create schema tenantry authorization {owner};
grant usage, create on schema public to public;
set role {owner};

create function tenantry.tenant_id() returns uuid language sql stable as $$
  select nullif(current_setting('app.tenant_id', true), '')::uuid
$$;
create function tenantry.account_id() returns uuid language sql stable as $$
  select nullif(current_setting('app.account_id', true), '')::uuid
$$;
create function tenantry.may_write() returns boolean language sql stable as $$ select true $$;
create function tenantry.leave() returns void language sql as $$ select set_config('app.tenant_id', '', false) $$;

set search_path = app, public;
{application}
{bookings}
create table country (code text primary key, name text not null);
reset search_path;

do $$
declare
  t text;
begin
  foreach t in array array['project', 'contact', 'event', 'event_2026', 'event_2027', 'ticket', 'booking'] loop
    continue when to_regclass('app.' || t) is null;
    if t not like 'event_2%' then
      execute format('alter table app.%I add column tenant_id uuid not null default tenantry.tenant_id()', t);
    end if;
    if t not like 'event_2%' then
      execute format('alter table app.%I enable row level security', t);
      execute format('create policy tenant on app.%I using (tenant_id = (select tenantry.tenant_id()))', t);
    end if;
  end loop;
end $$;
reset role;

-- The vault that some of them have: a signed token, with every check that can be forgotten.
create schema naive;
create table naive.checks (
  length boolean not null default true,
  code boolean not null default true,
  code_null boolean not null default true,
  code_whole boolean not null default true,
  keyed boolean not null default true,
  expiry boolean not null default true,
  expiry_cap boolean not null default true,
  backend boolean not null default true,
  counter boolean not null default true,
  fresh boolean not null default true,
  raw boolean not null default true,
  epoch boolean not null default true,
  fence boolean not null default true,
  retired boolean not null default true,
  database boolean not null default true,
  pooled_off boolean not null default true,
  kind boolean not null default true,
  known_tenant boolean not null default true
);
insert into naive.checks default values;
create table naive.mac_key (kid int primary key, ik bytea not null, ok bytea not null, retired boolean not null default false,
  database_name name not null default current_database());
create table naive.fence (tenant uuid primary key, epoch int8 not null default 1, state int2 not null default 0);

create function naive.accept(p_msg bytea, p_mac bytea, p_pooled boolean) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $f$
declare
  c naive.checks := (select x from naive.checks x);
  k naive.mac_key;
  f naive.fence;
  v_tenant uuid;
  v_expected bytea;
  v_last text := coalesce(current_setting('app.last', true), '');
  v_pid bytea := case when p_pooled then int4send(0) else int4send(pg_backend_pid()) end;
begin
  if p_pooled and c.pooled_off and c.kind then raise exception using errcode = '28000', message = 'pooled tokens are off'; end if;
  if c.length and octet_length(p_msg) is distinct from 58 then raise exception using errcode = '28000', message = 'length'; end if;
  if c.length and p_mac is null and c.code_null then raise exception using errcode = '28000', message = 'no code'; end if;
  select * into k from naive.mac_key m where m.kid = get_byte(p_msg, 37) and (not m.retired or not c.retired);
  if k.kid is null and c.keyed then raise exception using errcode = '28000', message = 'no key'; end if;
  if c.database and k.database_name <> current_database() then raise exception using errcode = '28000', message = 'another database'; end if;
  v_expected := sha256(k.ok || sha256(k.ik || p_msg));
  if not c.code_whole then v_expected := substr(v_expected, 1, octet_length(p_mac)); end if;
  if c.code and v_expected <> p_mac then raise exception using errcode = '28000', message = 'code'; end if;
  if c.expiry and substr(p_msg, 26, 8) <= timestamptz_send(clock_timestamp()) then raise exception using errcode = '28000', message = 'expired'; end if;
  if c.expiry_cap and substr(p_msg, 26, 8) >= timestamptz_send(clock_timestamp() + interval '60 s') then raise exception using errcode = '28000', message = 'too long'; end if;
  if c.backend and substr(p_msg, 34, 4) <> v_pid then raise exception using errcode = '28000', message = 'backend'; end if;
  if v_last = '' then
    if c.fresh and get_byte(p_msg, 24) & 1 = 0 then raise exception using errcode = '28000', message = 'not fresh'; end if;
  else
    if c.counter and encode(substr(p_msg, 17, 8), 'hex') <= left(v_last, 16) then raise exception using errcode = '28000', message = 'counter'; end if;
    if c.raw and substr(v_last, 18, 1) >= '2' then raise exception using errcode = '28000', message = 'raw lane'; end if;
  end if;
  v_tenant := encode(substr(p_msg, 1, 16), 'hex')::uuid;
  select * into f from naive.fence x where x.tenant = v_tenant;
  if c.known_tenant and f.tenant is null then raise exception using errcode = '28000', message = 'unknown'; end if;
  if c.fence and f.state <> 0 then raise exception using errcode = '28000', message = 'closed'; end if;
  if c.epoch and substr(p_msg, 55, 4) <> substr(int8send(f.epoch), 5, 4) then raise exception using errcode = '28000', message = 'old placement'; end if;
  perform set_config('app.tenant_id', v_tenant::text, false),
          set_config('app.last', encode(substr(p_msg, 17, 9), 'hex'), false);
end $f$;
create function tenantry.enter(p_msg bytea, p_mac bytea) returns void language sql as $$ select naive.accept(p_msg, p_mac, false) $$;
create function tenantry.enter_pooled(p_msg bytea, p_mac bytea) returns void language sql as $$ select naive.accept(p_msg, p_mac, true) $$;

-- The queue that some of them have. Each call is right as it stands here; the programs say which one forgets what.
create table naive.job (
  id uuid primary key,
  tenant uuid not null,
  kind text not null,
  payload text not null,
  unique_key text unique
);
create table naive.schedule (tenant uuid not null, name text not null, payload text not null, primary key (tenant, name));
create function tenantry.enqueue(
  p_id uuid, p_kind text, p_payload text, p_delay interval, p_priority int2, p_attempts_max int2, p_unique_key text
) returns uuid
language sql security definer as $$
  insert into naive.job (id, tenant, kind, payload, unique_key)
  values (p_id, tenantry.tenant_id(), p_kind, p_payload, p_unique_key)
  on conflict (unique_key) do update set kind = excluded.kind
  returning id
$$;
create function tenantry.job_list(p_states int2[], p_after uuid, p_count int4) returns setof naive.job
language sql security definer as $$ select * from naive.job where tenant = tenantry.tenant_id() $$;
create function tenantry.job_done(p_id uuid, p_lease int8) returns void
language sql security definer as $$ delete from naive.job where id = p_id and tenant = tenantry.tenant_id() $$;
create function tenantry.schedule_set(
  p_name text, p_cron text, p_zone text, p_missed int2, p_kind text, p_payload text, p_priority int2, p_attempts_max int2
) returns void
language sql security definer as $$ insert into naive.schedule values (tenantry.tenant_id(), p_name, p_payload) $$;
create function tenantry.schedule_list() returns setof naive.schedule
language sql security definer as $$ select * from naive.schedule where tenant = tenantry.tenant_id() $$;
create function tenantry.schedule_remove(p_name text) returns boolean
language sql security definer as $$ delete from naive.schedule where tenant = tenantry.tenant_id() and name = p_name returning true $$;
