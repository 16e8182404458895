-- What makes jobs by the clock: schedules of one tenant, and those that programs declare for every tenant, a row for each. Times are
-- worked out by workers, who know cron and time zones; a due time is taken by whoever moves its row on first, in the transaction
-- that makes the job.

create table if not exists tenantry_private.schedule (
  tenant uuid not null,
  -- declared by a program for every tenant; else the tenant's own
  everyone boolean not null,
  name text not null check (octet_length(name) between 1 and 200),
  cron text not null check (octet_length(cron) between 1 and 200),
  zone text not null check (octet_length(zone) between 1 and 100),
  -- what becomes of times at which no worker was there, or the tenant was suspended: 0 nothing, 1 one job for all of them
  missed int2 not null check (missed in (0, 1)),
  kind text not null check (octet_length(kind) between 1 and 200),
  payload text not null check (octet_length(payload) <= 1048576),
  account uuid,
  role int2 not null check (role between 0 and 3),
  priority int2 not null,
  attempts_max int2 not null check (attempts_max > 0),
  -- due times up to here are dealt with; at first none before it was made
  dealt_at timestamptz not null default clock_timestamp(),
  -- the first one after it, null until a worker has worked it out
  next_at timestamptz,
  -- why no worker can
  broken text,
  made_at timestamptz not null default clock_timestamp(),
  kid int4 not null,
  mac bytea not null,
  primary key (tenant, everyone, name)
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
-- The API key that set it, where one did.
alter table tenantry_private.schedule add column if not exists api_key uuid;
create index if not exists schedule_due on tenantry_private.schedule (coalesce(next_at, '-infinity')) where broken is null;
create index if not exists schedule_everyone on tenantry_private.schedule (name, tenant) where everyone;

-- 218 bytes, and 234 where an API key set it: as long as nothing else that this key signs.
create or replace function tenantry_private.schedule_mac(p_kid int4, p_schedule tenantry_private.schedule) returns bytea
language sql stable
begin atomic
  select sha256(m.ok || sha256(m.ik
           || convert_to('tenantry schedule', 'UTF8') || uuid_send((p_schedule).tenant) || boolsend((p_schedule).everyone)
           || coalesce(uuid_send((p_schedule).account), decode(repeat('00', 16), 'hex')) || int2send((p_schedule).role)
           || int2send((p_schedule).missed) || int2send((p_schedule).priority) || int2send((p_schedule).attempts_max)
           || sha256(convert_to((p_schedule).name, 'UTF8')) || sha256(convert_to((p_schedule).cron, 'UTF8'))
           || sha256(convert_to((p_schedule).zone, 'UTF8')) || sha256(convert_to((p_schedule).kind, 'UTF8'))
           || sha256(convert_to((p_schedule).payload, 'UTF8'))
           -- nothing where there is none: what was signed before there were any still holds
           || coalesce(uuid_send((p_schedule).api_key), ''::bytea)))
    from tenantry_private.mac_key m where m.kid = p_kid and m.database_name = current_database();
end;

-- As the version before had it.
drop function if exists tenantry.schedule_set(text, text, text, int2, text, text, int2, int2);
-- Of the caller's tenant, as who says it and with the rights that this one has. The same name again takes the place of the earlier
-- one, and keeps its times where they are the same.
create or replace function tenantry.schedule_set(
  p_name text, p_cron text, p_zone text, p_missed int2, p_kind text, p_payload text, p_priority int2, p_attempts_max int2,
  p_api_key uuid default null
) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $f$
declare
  v_schedule tenantry_private.schedule;
begin
  v_schedule.tenant := tenantry_private.require_admin();
  perform tenantry.may_write();
  -- Two at once would both find room for one more.
  perform pg_advisory_xact_lock(hashtextextended('tenantry schedule ' || v_schedule.tenant, 0));
  if (select count(*) from tenantry_private.schedule s where s.tenant = v_schedule.tenant and not s.everyone and s.name <> p_name) >= 1000 then
    raise exception using errcode = '54000', message = 'tenantry: a tenant has 1000 schedules at most: remove some first';
  end if;
  v_schedule.everyone := false;
  v_schedule.name := p_name;
  v_schedule.cron := p_cron;
  v_schedule.zone := p_zone;
  v_schedule.missed := p_missed;
  v_schedule.kind := p_kind;
  v_schedule.payload := p_payload;
  v_schedule.priority := p_priority;
  v_schedule.attempts_max := p_attempts_max;
  v_schedule.account := tenantry.account_id();
  v_schedule.api_key := p_api_key;
  v_schedule.role := case when tenantry.has_role('owner') then 3 else 2 end;
  v_schedule.kid := (select kid from tenantry_private.mac_key order by created_at desc, kid desc limit 1);
  v_schedule.mac := tenantry_private.schedule_mac(v_schedule.kid, v_schedule);
  perform tenantry_private.schedule_put(v_schedule);
end $f$;

create or replace function tenantry_private.schedule_put(p_new tenantry_private.schedule) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $f$
begin
  insert into tenantry_private.schedule as s
    (tenant, everyone, name, cron, zone, missed, kind, payload, account, api_key, role, priority, attempts_max, kid, mac)
  values (p_new.tenant, p_new.everyone, p_new.name, p_new.cron, p_new.zone, p_new.missed, p_new.kind, p_new.payload, p_new.account,
          p_new.api_key, p_new.role, p_new.priority, p_new.attempts_max, p_new.kid, p_new.mac)
  on conflict (tenant, everyone, name) do update
     set cron = excluded.cron, zone = excluded.zone, missed = excluded.missed, kind = excluded.kind, payload = excluded.payload,
         account = excluded.account, api_key = excluded.api_key, role = excluded.role, priority = excluded.priority,
         attempts_max = excluded.attempts_max, kid = excluded.kid, mac = excluded.mac,
         dealt_at = case when (s.cron, s.zone) = (excluded.cron, excluded.zone) and s.broken is null then s.dealt_at else clock_timestamp() end,
         next_at = case when (s.cron, s.zone) = (excluded.cron, excluded.zone) and s.broken is null then s.next_at end,
         broken = null;
end $f$;

-- The caller's tenant's own, and those that programs declare for everyone.
create or replace function tenantry.schedule_list()
returns table (everyone boolean, name text, cron text, zone text, missed int2, kind text, payload text, account uuid, priority int2,
               attempts_max int2, dealt_at timestamptz, next_at timestamptz, broken text, made_at timestamptz)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $f$
#variable_conflict use_column
declare
  v_tenant uuid := tenantry_private.require_admin();
begin
  return query select s.everyone, s.name, s.cron, s.zone, s.missed, s.kind, s.payload, s.account, s.priority, s.attempts_max,
                      s.dealt_at, s.next_at, s.broken, s.made_at
                 from tenantry_private.schedule s where s.tenant = v_tenant order by s.everyone, s.name;
end $f$;

-- One of the caller's tenant's own. What it has made already stays.
create or replace function tenantry.schedule_remove(p_name text) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $f$
declare
  v_tenant uuid := tenantry_private.require_admin();
begin
  perform tenantry.may_write();
  delete from tenantry_private.schedule s where s.tenant = v_tenant and not s.everyone and s.name = p_name;
  return found;
end $f$;

-- The same two for operators and the control plane, which has checked who asks. What the jobs are made with is the tenant's own, and
-- stays out of it.
create or replace function tenantry_private.schedule_list(p_tenant uuid)
returns table (everyone boolean, name text, cron text, zone text, missed int2, kind text, account uuid, priority int2, attempts_max int2,
               next_at timestamptz, broken text, made_at timestamptz)
language sql stable security definer set search_path = pg_catalog, pg_temp
begin atomic
  select s.everyone, s.name, s.cron, s.zone, s.missed, s.kind, s.account, s.priority, s.attempts_max, s.next_at, s.broken, s.made_at
    from tenantry_private.schedule s where s.tenant = p_tenant order by s.everyone, s.name;
end;

create or replace function tenantry_private.schedule_remove(p_tenant uuid, p_name text) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $f$
begin
  delete from tenantry_private.schedule s where s.tenant = p_tenant and not s.everyone and s.name = p_name;
  return found;
end $f$;

-- What a program declares for every tenant, as rows: of tenants that have none yet, and of those whose row says something else. At
-- most so many rows; tells how many there were.
create or replace function tenantry.schedule_everyone(
  p_msg bytea, p_mac bytea, p_name text, p_cron text, p_zone text, p_missed int2, p_kind text, p_payload text, p_role int2,
  p_priority int2, p_attempts_max int2, p_count int4
) returns int4
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $f$
declare
  v_schedule tenantry_private.schedule;
  v_tenant uuid;
  v_put int4 := 0;
begin
  perform tenantry_private.require_worker(p_msg, p_mac);
  -- One worker at a time: the others find nothing left to do.
  if not pg_try_advisory_xact_lock(hashtextextended('tenantry schedule ' || p_name, 1)) then
    return 0;
  end if;
  v_schedule.everyone := true;
  v_schedule.name := p_name;
  v_schedule.cron := p_cron;
  v_schedule.zone := p_zone;
  v_schedule.missed := p_missed;
  v_schedule.kind := p_kind;
  v_schedule.payload := p_payload;
  v_schedule.role := p_role;
  v_schedule.priority := p_priority;
  v_schedule.attempts_max := p_attempts_max;
  v_schedule.kid := (select kid from tenantry_private.mac_key order by created_at desc, kid desc limit 1);
  for v_tenant in
    select f.tenant from tenantry_private.fence f
      left join tenantry_private.schedule s on s.tenant = f.tenant and s.everyone and s.name = p_name
     where f.state = 0
       and (s.cron, s.zone, s.missed, s.kind, s.payload, s.role, s.priority, s.attempts_max)
           is distinct from (p_cron, p_zone, p_missed, p_kind, p_payload, p_role, p_priority, p_attempts_max)
     limit p_count
  loop
    v_schedule.tenant := v_tenant;
    v_schedule.mac := tenantry_private.schedule_mac(v_schedule.kid, v_schedule);
    perform tenantry_private.schedule_put(v_schedule);
    v_put := v_put + 1;
  end loop;
  return v_put;
end $f$;

-- Schedules that are due or have no next time yet, the longest due first, of tenants whose fence is open, as far as this worker
-- makes their jobs: those it declares for everyone, and tenants' own of its kinds. The last row names no tenant and says when the
-- next one is due.
create or replace function tenantry.schedule_due(p_msg bytea, p_mac bytea, p_names text[], p_kinds text[], p_count int4)
returns table (tenant uuid, everyone boolean, name text, cron text, zone text, missed int2, dealt_at timestamptz, next_at timestamptz,
               now timestamptz)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off set enable_sort = off as $f$
#variable_conflict use_column
declare
  v_now timestamptz := clock_timestamp();
begin
  perform tenantry_private.require_worker(p_msg, p_mac);
  return query
    select s.tenant, s.everyone, s.name, s.cron, s.zone, s.missed, s.dealt_at, s.next_at, v_now
      from tenantry_private.schedule s
     where s.broken is null and coalesce(s.next_at, '-infinity') <= v_now
       and case when s.everyone then s.name = any (p_names) else s.kind = any (p_kinds) end
       and exists (select from tenantry_private.fence f where f.tenant = s.tenant and f.state = 0)
     order by coalesce(s.next_at, '-infinity') limit p_count;
  return query
    select null::uuid, null::boolean, null::text, null::text, null::text, null::int2, null::timestamptz,
           (select s.next_at from tenantry_private.schedule s
             where s.broken is null and coalesce(s.next_at, '-infinity') > v_now
             order by coalesce(s.next_at, '-infinity') limit 1), v_now;
end $f$;

-- Moves schedules on, and makes the job of each due time that is named. Whoever comes second finds the row moved on already and
-- makes none. Tells how many jobs were made.
create or replace function tenantry.schedule_move(
  p_msg bytea, p_mac bytea, p_tenants uuid[], p_everyone boolean[], p_names text[], p_seen timestamptz[], p_dealt timestamptz[],
  p_next timestamptz[], p_broken text[], p_ids uuid[]
) returns int4
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $f$
declare
  v_step record;
  v_schedule tenantry_private.schedule;
  v_job tenantry_private.job;
  v_made int4 := 0;
begin
  perform tenantry_private.require_worker(p_msg, p_mac);
  for v_step in
    select m.* from unnest(p_tenants, p_everyone, p_names, p_seen, p_dealt, p_next, p_broken, p_ids)
             m (tenant, everyone, name, seen, dealt, next, broken, id)
     -- in one order, so that two workers who do the same wait for each other and not in a circle
     order by m.tenant, m.everyone, m.name
  loop
    update tenantry_private.schedule s
       set dealt_at = coalesce(v_step.dealt, s.dealt_at), next_at = v_step.next, broken = v_step.broken
     where s.tenant = v_step.tenant and s.everyone = v_step.everyone and s.name = v_step.name
       and s.next_at is not distinct from v_step.seen and (v_step.dealt is null or s.dealt_at < v_step.dealt)
    returning * into v_schedule;
    continue when not found or v_step.id is null;
    if v_schedule.mac is distinct from tenantry_private.schedule_mac(v_schedule.kid, v_schedule) then
      update tenantry_private.schedule s
         set broken = 'the row is not as this database signed it: it was changed by hand, or comes from another database'
       where s.tenant = v_step.tenant and s.everyone = v_step.everyone and s.name = v_step.name;
      continue;
    end if;
    v_job.id := v_step.id;
    v_job.tenant := v_schedule.tenant;
    v_job.kind := v_schedule.kind;
    v_job.payload := v_schedule.payload;
    v_job.account := v_schedule.account;
    v_job.api_key := v_schedule.api_key;
    v_job.role := v_schedule.role;
    v_job.kid := (select kid from tenantry_private.mac_key order by created_at desc, kid desc limit 1);
    v_job.mac := tenantry_private.job_mac(v_job.kid, v_job);
    insert into tenantry_private.job
      (id, tenant, kind, payload, account, api_key, role, state, lane, priority, run_at, attempts_max, unique_key, kid, mac)
    values (v_job.id, v_job.tenant, v_job.kind, v_job.payload, v_job.account, v_job.api_key, v_job.role, 0, 1, v_schedule.priority,
            v_step.dealt, v_schedule.attempts_max,
            case when v_schedule.everyone then 'every ' else 'schedule ' end || v_schedule.name || ' '
              || to_char(v_step.dealt at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
            v_job.kid, v_job.mac)
    on conflict (tenant, kind, unique_key) where unique_key is not null and state <> 2 do nothing;
    if found then
      v_made := v_made + 1;
    end if;
  end loop;
  return v_made;
end $f$;

-- Before a key ends, as with jobs.
create or replace function tenantry_private.schedule_sign_again(p_from int4, p_to int4) returns void
language sql volatile
begin atomic
  update tenantry_private.schedule s set kid = p_to, mac = tenantry_private.schedule_mac(p_to, s)
   where s.kid = p_from and s.mac = tenantry_private.schedule_mac(p_from, s);
end;
