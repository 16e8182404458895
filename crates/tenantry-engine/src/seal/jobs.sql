-- Work for later, of all tenants of this database. A bound session enqueues it in its own transaction; whoever proves that it
-- holds the database's key takes it, by turns among tenants; the handler's own transaction ends it.

create sequence if not exists tenantry_private.job_lease as int8;
create table if not exists tenantry_private.job (
  tenant uuid not null,
  id uuid not null,
  kind text not null check (octet_length(kind) between 1 and 200),
  -- JSON, in the very form that was signed
  payload text not null check (octet_length(payload) <= 1048576),
  -- who enqueued it, as the session said, and with which rights, as its seal said
  account uuid,
  role int2 not null check (role between 0 and 3),
  -- 0 waiting, 1 running, 2 dead, 3 not due yet
  state int2 not null check (state between 0 and 3),
  priority int2 not null,
  run_at timestamptz not null,
  attempt int2 not null default 0,
  attempts_max int2 not null check (attempts_max > 0),
  unique_key text check (octet_length(unique_key) <= 500),
  -- grows with each claim: who holds an older one has lost the job
  lease int8,
  leased_until timestamptz,
  worker text,
  error text,
  enqueued_at timestamptz not null default clock_timestamp(),
  failed_at timestamptz,
  kid int4 not null,
  mac bytea not null,
  -- of the tenant's: whether another tenant's job has an id is not to be found out
  primary key (tenant, id)
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
-- 0 asked for, 1 made by a schedule: the two take turns, so that a minute in which every tenant has something to do delays
-- nobody's own by more than one job.
alter table tenantry_private.job add column if not exists lane int2 not null default 0 check (lane in (0, 1));
-- The API key that asked, where one did: its jobs end with it, as a person's do.
alter table tenantry_private.job add column if not exists api_key uuid;
drop index if exists tenantry_private.job_waiting;
drop index if exists tenantry_private.job_turn;
-- By the kind before the tenant: what waits for other workers' handlers is not walked through, however much it is.
create index if not exists job_kind_turn on tenantry_private.job (lane, kind, tenant, priority desc, id) where state = 0;
create index if not exists job_running on tenantry_private.job (tenant) where state = 1;
create index if not exists job_dead on tenantry_private.job (tenant, id) where state = 2;
create index if not exists job_later on tenantry_private.job (run_at) where state = 3;
create unique index if not exists job_unique on tenantry_private.job (tenant, kind, unique_key)
  where unique_key is not null and state <> 2;

-- 126 bytes are signed, and 142 where an API key asked: as long as nothing else that this key signs, so that none is taken for another.
create or replace function tenantry_private.job_message(p_job tenantry_private.job) returns bytea
language sql stable
begin atomic
  select convert_to('tenantry job', 'UTF8') || uuid_send((p_job).id) || uuid_send((p_job).tenant)
           || coalesce(uuid_send((p_job).account), decode(repeat('00', 16), 'hex')) || int2send((p_job).role)
           || sha256(convert_to((p_job).kind, 'UTF8')) || sha256(convert_to((p_job).payload, 'UTF8'))
           -- nothing where there is none: what was signed before there were any still holds
           || coalesce(uuid_send((p_job).api_key), ''::bytea);
end;

create or replace function tenantry_private.job_mac(p_kid int4, p_job tenantry_private.job) returns bytea
language sql stable
begin atomic
  select sha256(m.ok || sha256(m.ik || tenantry_private.job_message(p_job)))
    from tenantry_private.mac_key m where m.kid = p_kid and m.database_name = current_database();
end;

-- As the version before had it: whoever calls it so still finds it, with the parameter that has come since left out.
drop function if exists tenantry.enqueue(uuid, text, text, interval, int2, int2, text);
-- In the caller's tenant and transaction. Gives the id of the job: an earlier one's where one with this unique key waits or runs.
-- Who acts is said by the session, as with `account_id`: which rights the job has at most, the seal says.
create or replace function tenantry.enqueue(
  p_id uuid, p_kind text, p_payload text, p_delay interval, p_priority int2, p_attempts_max int2, p_unique_key text,
  p_api_key uuid default null
) returns uuid
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $f$
declare
  v_job tenantry_private.job;
  v_key tenantry_private.mac_key;
  v_earlier uuid;
begin
  v_job.tenant := tenantry.tenant_id();
  if v_job.tenant is null then
    raise exception using errcode = '42501', message = 'tenantry: a job belongs to a tenant: enqueue it in a scope';
  end if;
  -- An error for a viewer.
  perform tenantry.may_write();
  v_job.id := p_id;
  v_job.kind := p_kind;
  v_job.payload := p_payload;
  v_job.account := tenantry.account_id();
  v_job.api_key := p_api_key;
  v_job.role := case when tenantry.has_role('owner') then 3 when tenantry.has_role('admin') then 2 else 1 end;
  v_job.run_at := clock_timestamp() + greatest(p_delay, interval '0');
  v_job.state := case when p_delay > interval '0' then 3 else 0 end;
  select * into v_key from tenantry_private.mac_key m where m.database_name = current_database()
   order by m.created_at desc, m.kid desc limit 1;
  v_job.kid := v_key.kid;
  v_job.mac := sha256(v_key.ok || sha256(v_key.ik || tenantry_private.job_message(v_job)));
  loop
    insert into tenantry_private.job
      (id, tenant, kind, payload, account, api_key, role, state, priority, run_at, attempts_max, unique_key, kid, mac)
    values (v_job.id, v_job.tenant, v_job.kind, v_job.payload, v_job.account, v_job.api_key, v_job.role, v_job.state, p_priority,
            v_job.run_at, p_attempts_max, p_unique_key, v_job.kid, v_job.mac)
    on conflict (tenant, kind, unique_key) where unique_key is not null and state <> 2 do nothing;
    if found then
      return p_id;
    end if;
    select id into v_earlier from tenantry_private.job
     where tenant = v_job.tenant and kind = p_kind and unique_key = p_unique_key and state <> 2;
    if found then
      return v_earlier;
    end if;
  end loop;
end $f$;

-- In the handler's own transaction: what it did holds if and only if the job is over.
create or replace function tenantry.job_done(p_id uuid, p_lease int8) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $f$
begin
  delete from tenantry_private.job where id = p_id and tenant = tenantry.tenant_id() and lease = p_lease and state = 1;
  if not found then
    raise exception using errcode = 'TN004', message = 'tenantry: the job is no longer this worker''s';
  end if;
end $f$;

create or replace function tenantry_private.require_worker(p_msg bytea, p_mac bytea) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $f$
begin
  if octet_length(p_msg) is distinct from 58 or p_mac is null
     or substr(p_msg, 1, 25) <> decode(repeat('00', 24) || '04', 'hex')
     or not tenantry_private.is_genuine(p_msg, p_mac, int4send(pg_backend_pid())) then
    raise exception using errcode = '28000', message = 'tenantry: token rejected';
  end if;
end $f$;

-- What became due waits, and what a worker did not come back with begins again, or is dead.
create or replace function tenantry_private.job_tidy() returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $f$
begin
  update tenantry_private.job set state = 0
   where (tenant, id) in (select j.tenant, j.id from tenantry_private.job j where j.state = 3 and j.run_at <= clock_timestamp()
                           order by j.run_at limit 1000 for update skip locked);
  update tenantry_private.job j
     set state = case when j.attempt >= j.attempts_max then 2 else 0 end, lease = null, leased_until = null,
         error = 'the worker ' || j.worker || ' did not come back with it', failed_at = clock_timestamp(), worker = null
   where (j.tenant, j.id) in (select o.tenant, o.id from tenantry_private.job o where o.state = 1 and o.leased_until < clock_timestamp()
                               limit 1000 for update skip locked);
end $f$;

-- The first of one tenant's jobs of several kinds, so many at most, in their order over all kinds. Locks what it gives, and more only
-- where another claim is at the same ones: those are passed by, and what comes next has to be held while it is chosen. Its plans are
-- made for, and by the settings of, `job_take`, which calls it; but it sorts a few rows, and beside the price of a sort that is off
-- PostgreSQL tells no index from another.
create or replace function tenantry_private.job_pick(
  p_lane int2, p_tenant uuid, p_kinds text[], p_count int4, p_not uuid[], p_api_keys boolean
) returns uuid[]
language plpgsql volatile set search_path = pg_catalog, pg_temp set enable_sort = on as $f$
declare
  v_picked uuid[];
begin
  v_picked := array(
    select o.id
      from (select p.id, p.priority, k.kind
              from unnest(p_kinds) k (kind)
             cross join lateral (select w.id, w.priority from tenantry_private.job w
                                  where w.lane = p_lane and w.kind = k.kind and w.tenant = p_tenant and w.state = 0
                                    and w.id <> all (p_not) and (p_api_keys or w.api_key is null)
                                  order by w.priority desc, w.id limit p_count) p
             order by p.priority desc, p.id limit p_count) c
      -- All of the index's columns: by some of them PostgreSQL goes through all that the tenant has waiting.
      join tenantry_private.job o on o.lane = p_lane and o.kind = c.kind and o.tenant = p_tenant and o.priority = c.priority
                                 and o.id = c.id and o.state = 0
     order by c.priority desc, c.id for update of o skip locked);
  if cardinality(v_picked) = p_count then
    return v_picked;
  end if;
  return v_picked || array(
    select p.id
      from unnest(p_kinds) k (kind)
     cross join lateral (select w.id, w.priority from tenantry_private.job w
                          where w.lane = p_lane and w.kind = k.kind and w.tenant = p_tenant and w.state = 0
                            and w.id <> all (p_not || v_picked) and (p_api_keys or w.api_key is null)
                          order by w.priority desc, w.id limit p_count - cardinality(v_picked) for update skip locked) p
     order by p.priority desc, p.id limit p_count - cardinality(v_picked));
end $f$;

-- As the version before had them; `job_claim` stands on `job_take`.
drop function if exists tenantry.job_claim(bytea, bytea, text, text[], uuid, int4, interval, int4);
drop function if exists tenantry.job_take(bytea, bytea, text, text[], int2, uuid, uuid, int4, interval, int4, boolean);
-- Up to so many jobs, one of each tenant in the order of their ids, round and round, and by turns of those that somebody asked for
-- and those that schedules made: who has a hundred thousand waiting gets a turn like who has one. It begins with `p_lane`, in each
-- after the tenant whose turn was last. Tenants whose fence is not open wait. What waits of other kinds is not looked at.
--
-- `p_api_keys` says that the worker asks whether the API key of a job is still good: one of a version that does not know of keys
-- gets no job of a key, which it would take for the application's own.
create or replace function tenantry.job_take(
  p_msg bytea, p_mac bytea, p_worker text, p_kinds text[], p_lane int2, p_after_asked uuid, p_after_scheduled uuid, p_count int4,
  p_lease interval, p_tenant_max int4, p_tidy boolean, p_api_keys boolean default false
) returns table (id uuid, tenant uuid, kind text, payload text, account uuid, role int2, attempt int2, attempts_max int2,
                 lease int8, enqueued_at timestamptz, lane int2, api_key uuid)
-- A plan that was made while the table was small has to do when it is large, and is made once. What can't do without a node that is off
-- has a price for which PostgreSQL would compile it.
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off set enable_sort = off
set enable_hashjoin = off set enable_mergejoin = off set jit = off set plan_cache_mode = force_generic_plan as $f$
#variable_conflict use_column
declare
  v_nobody constant uuid := '00000000-0000-0000-0000-000000000000';
  -- behind every tenant
  v_end constant uuid := 'ffffffff-ffff-ffff-ffff-ffffffffffff';
  -- each once: a job that is found twice would be counted twice
  v_kinds constant text[] := array(select distinct k.kind from unnest(p_kinds) k (kind));
  -- of each lane: whose turn was last; whether this is a pass over all tenants, not only over those after that one; how many this
  -- pass has given; how many each tenant gives in it; whether there is nothing more
  v_after uuid[] := array[coalesce(p_after_asked, v_nobody), coalesce(p_after_scheduled, v_nobody)];
  v_whole boolean[] := array[v_after[1] = v_nobody, v_after[2] = v_nobody];
  v_in_pass int4[] := array[0, 0];
  v_share int4[] := array[1, 1];
  v_empty boolean[] := array[false, false];
  v_lane int4 := case when p_lane = 1 then 2 else 1 end;
  -- of each lane and kind, the first tenant after the last turn that has one waiting; `v_nobody` where that is to be found out
  v_next uuid[] := array_fill(v_nobody, array[2 * cardinality(v_kinds)]);
  v_place int4;
  v_found record;
  v_tenant uuid;
  -- what that tenant has waiting, of the kinds that are asked for
  v_of_kinds text[];
  v_room int4;
  -- what was taken, in its order: locked, and not changed before the end
  v_tenants uuid[] := '{}';
  v_ids uuid[] := '{}';
  v_claimed int4 := 0;
  v_given int4;
begin
  perform tenantry_private.require_worker(p_msg, p_mac);
  if p_tidy then
    perform tenantry_private.job_tidy();
  end if;
  while v_claimed < p_count and not (v_empty[1] and v_empty[2]) loop
    if v_empty[v_lane] then
      v_lane := 3 - v_lane;
    end if;
    -- The next tenant; nothing is locked before it is known that it may have a turn. For each kind by the three, which only
    -- `job_kind_turn` has an order of: by the tenant alone PostgreSQL may go through the primary key, and so through all that waits.
    v_tenant := v_end;
    v_of_kinds := '{}';
    for v_kind in 1 .. cardinality(v_kinds) loop
      v_place := (v_lane - 1) * cardinality(v_kinds) + v_kind;
      if v_next[v_place] <= v_after[v_lane] then
        select o.lane, o.kind, o.tenant into v_found
          from tenantry_private.job o
         where o.state = 0 and (o.lane, o.kind, o.tenant) > ((v_lane - 1)::int2, v_kinds[v_kind], v_after[v_lane])
         order by o.lane, o.kind, o.tenant limit 1;
        v_next[v_place] := case when v_found.lane = v_lane - 1 and v_found.kind = v_kinds[v_kind] then v_found.tenant else v_end end;
      end if;
      if v_next[v_place] < v_tenant then
        v_tenant := v_next[v_place];
        v_of_kinds := array[v_kinds[v_kind]];
      elsif v_next[v_place] = v_tenant then
        v_of_kinds := v_of_kinds || v_kinds[v_kind];
      end if;
    end loop;
    if v_tenant = v_end then
      v_empty[v_lane] := v_whole[v_lane] and v_in_pass[v_lane] = 0;
      -- Who gives anything has had a turn: what there is room for is shared by those.
      v_share[v_lane] := case when v_whole[v_lane] then greatest(1, (p_count - v_claimed) / greatest(1, v_in_pass[v_lane])) else 1 end;
      v_after[v_lane] := v_nobody;
      v_whole[v_lane] := true;
      v_in_pass[v_lane] := 0;
      -- From the beginning again.
      for v_kind in 1 .. cardinality(v_kinds) loop
        v_next[(v_lane - 1) * cardinality(v_kinds) + v_kind] := v_nobody;
      end loop;
      continue;
    end if;
    v_after[v_lane] := v_tenant;
    continue when not exists (select from tenantry_private.fence f where f.tenant = v_tenant and f.state = 0);
    v_room := least(v_share[v_lane], p_count - v_claimed);
    if p_tenant_max is not null then
      -- Two claims at once would both find room for one more; who comes second passes the tenant by.
      continue when not pg_try_advisory_xact_lock(hashtextextended('tenantry job ' || v_tenant, 0));
      v_room := least(v_room, p_tenant_max - cardinality(array_positions(v_tenants, v_tenant))
                        - (select count(*) from tenantry_private.job j where j.tenant = v_tenant and j.state = 1)::int4);
      continue when v_room <= 0;
    end if;
    if cardinality(v_of_kinds) = 1 then
      v_ids := v_ids || array(select o.id from tenantry_private.job o
                               where o.lane = v_lane - 1 and o.kind = v_of_kinds[1] and o.tenant = v_tenant and o.state = 0
                                 and o.id <> all (v_ids) and (p_api_keys or o.api_key is null)
                               order by o.priority desc, o.id limit v_room for update skip locked);
    else
      v_ids := v_ids || tenantry_private.job_pick((v_lane - 1)::int2, v_tenant, v_of_kinds, v_room, v_ids, p_api_keys);
    end if;
    continue when cardinality(v_ids) = v_claimed;
    v_in_pass[v_lane] := v_in_pass[v_lane] + 1;
    v_tenants := v_tenants || array_fill(v_tenant, array[cardinality(v_ids) - v_claimed]);
    v_claimed := cardinality(v_ids);
    v_lane := 3 - v_lane;
  end loop;
  if v_claimed = 0 then
    return;
  end if;
  return query
    with taken as (
      update tenantry_private.job j
         set state = 1, attempt = j.attempt + 1, lease = nextval('tenantry_private.job_lease'),
             leased_until = clock_timestamp() + p_lease, worker = p_worker
        from unnest(v_tenants, v_ids) with ordinality t (tenant, id, nth)
       where j.tenant = t.tenant and j.id = t.id
      returning t.nth, j as job
    )
    select (t.job).id, (t.job).tenant, (t.job).kind, (t.job).payload, (t.job).account, (t.job).role, (t.job).attempt,
           (t.job).attempts_max, (t.job).lease, (t.job).enqueued_at, (t.job).lane, (t.job).api_key
      from taken t join tenantry_private.mac_key m on m.kid = (t.job).kid and m.database_name = current_database()
     where (t.job).mac = sha256(m.ok || sha256(m.ik || tenantry_private.job_message(t.job)))
     order by t.nth;
  get diagnostics v_given = row_count;
  if v_given < v_claimed then
    update tenantry_private.job j
       set state = 2, lease = null, leased_until = null, worker = null, failed_at = clock_timestamp(),
           error = 'the row is not as this database signed it: it was changed by hand, or comes from another database'
      from unnest(v_tenants, v_ids) t (tenant, id)
     where j.tenant = t.tenant and j.id = t.id and j.mac is distinct from tenantry_private.job_mac(j.kid, j);
  end if;
end $f$;

-- As workers of an earlier version call it.
create or replace function tenantry.job_claim(
  p_msg bytea, p_mac bytea, p_worker text, p_kinds text[], p_after uuid, p_count int4, p_lease interval, p_tenant_max int4
) returns table (id uuid, tenant uuid, kind text, payload text, account uuid, role int2, attempt int2, attempts_max int2,
                 lease int8, enqueued_at timestamptz)
language sql volatile security definer set search_path = pg_catalog, pg_temp
begin atomic
  select t.id, t.tenant, t.kind, t.payload, t.account, t.role, t.attempt, t.attempts_max, t.lease, t.enqueued_at
    from tenantry.job_take(p_msg, p_mac, p_worker, p_kinds, 0::int2, p_after, p_after, p_count, p_lease, p_tenant_max, true) t;
end;

-- Keeps leases; gives the jobs that are lost. One that is being ended at this moment is neither.
create or replace function tenantry.job_beat(
  p_msg bytea, p_mac bytea, p_tenants uuid[], p_ids uuid[], p_leases int8[], p_lease interval
) returns setof uuid
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $f$
begin
  perform tenantry_private.require_worker(p_msg, p_mac);
  update tenantry_private.job j set leased_until = clock_timestamp() + p_lease
   where (j.tenant, j.id) in (select o.tenant, o.id from unnest(p_tenants, p_ids, p_leases) h (tenant, id, lease)
                                join tenantry_private.job o on o.tenant = h.tenant and o.id = h.id and o.lease = h.lease and o.state = 1
                                 for update of o skip locked);
  return query select h.id from unnest(p_tenants, p_ids, p_leases) h (tenant, id, lease)
                where not exists (select from tenantry_private.job j
                                   where j.tenant = h.tenant and j.id = h.id and j.lease = h.lease and j.state = 1);
end $f$;

-- Tries it again after a while, or never (null). Tells whether it was still this worker's.
create or replace function tenantry.job_failed(
  p_msg bytea, p_mac bytea, p_tenant uuid, p_id uuid, p_lease int8, p_error text, p_again interval
) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $f$
begin
  perform tenantry_private.require_worker(p_msg, p_mac);
  update tenantry_private.job
     set state = case when p_again is null or attempt >= attempts_max then 2 else 3 end,
         run_at = clock_timestamp() + coalesce(p_again, interval '0'),
         lease = null, leased_until = null, worker = null, error = left(p_error, 2000), failed_at = clock_timestamp()
   where tenant = p_tenant and id = p_id and lease = p_lease and state = 1;
  return found;
end $f$;

-- Gives jobs back that were not begun, or stopped without a fault of theirs: the attempt does not count.
create or replace function tenantry.job_release(
  p_msg bytea, p_mac bytea, p_tenants uuid[], p_ids uuid[], p_leases int8[], p_again interval
) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $f$
begin
  perform tenantry_private.require_worker(p_msg, p_mac);
  update tenantry_private.job j
     set state = case when p_again > interval '0' then 3 else 0 end, run_at = clock_timestamp() + p_again,
         attempt = greatest(j.attempt - 1, 0), lease = null, leased_until = null, worker = null
    from unnest(p_tenants, p_ids, p_leases) h (tenant, id, lease)
   where j.tenant = h.tenant and j.id = h.id and j.lease = h.lease and j.state = 1;
end $f$;

create or replace function tenantry_private.require_admin() returns uuid
language plpgsql stable set search_path = pg_catalog, pg_temp as $f$
declare
  v_tenant uuid := tenantry.tenant_id();
begin
  if v_tenant is null or tenantry.has_role('admin') is not true then
    raise exception using errcode = '42501', message = 'tenantry: jobs, schedules and history are for the tenant''s admins and owners';
  end if;
  return v_tenant;
end $f$;

-- What waits, runs or is dead, of the caller's tenant.
create or replace function tenantry.job_list(p_states int2[], p_after uuid, p_count int4)
returns table (id uuid, kind text, payload text, account uuid, state int2, priority int2, run_at timestamptz, attempt int2,
               attempts_max int2, unique_key text, error text, enqueued_at timestamptz, failed_at timestamptz)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $f$
#variable_conflict use_column
declare
  v_tenant uuid := tenantry_private.require_admin();
begin
  return query select j.id, j.kind, j.payload, j.account, j.state, j.priority, j.run_at, j.attempt, j.attempts_max, j.unique_key,
                      j.error, j.enqueued_at, j.failed_at
                 from tenantry_private.job j
                where j.tenant = v_tenant and j.state = any (p_states) and (p_after is null or j.id > p_after)
                order by j.id limit p_count;
end $f$;

-- A dead one begins anew. Not one whose row was changed: it is no more of this database's making than before; nor one whose unique
-- key another has by now.
create or replace function tenantry.job_retry(p_id uuid) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $f$
declare
  v_tenant uuid := tenantry_private.require_admin();
begin
  return tenantry_private.job_retry(v_tenant, p_id, null, 1) = 1;
end $f$;

-- One that does not run is taken out.
create or replace function tenantry.job_remove(p_id uuid) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $f$
declare
  v_tenant uuid := tenantry_private.require_admin();
begin
  return tenantry_private.job_remove(v_tenant, p_id, null, 1) = 1;
end $f$;

-- For operators and the control plane, which has checked who asks: of one tenant, or of all where none is named, in the order of
-- their ids. Payloads are the tenants' own; whoever shows this to somebody else leaves them out.
create or replace function tenantry_private.job_list(
  p_tenant uuid, p_kind text, p_states int2[], p_after_tenant uuid, p_after_id uuid, p_count int4
) returns table (tenant uuid, id uuid, kind text, payload text, account uuid, state int2, lane int2, priority int2, run_at timestamptz,
                 attempt int2, attempts_max int2, unique_key text, error text, enqueued_at timestamptz, failed_at timestamptz)
language sql stable security definer set search_path = pg_catalog, pg_temp
begin atomic
  select j.tenant, j.id, j.kind, j.payload, j.account, j.state, j.lane, j.priority, j.run_at, j.attempt, j.attempts_max, j.unique_key,
         j.error, j.enqueued_at, j.failed_at
    from tenantry_private.job j
   where (p_tenant is null or j.tenant = p_tenant) and (p_kind is null or j.kind = p_kind) and j.state = any (p_states)
     and (p_after_id is null or (j.tenant, j.id) > (p_after_tenant, p_after_id))
   order by j.tenant, j.id limit p_count;
end;

-- Dead ones begin anew, by the same choice; not those whose row was changed, and not where one with the same unique key waits or
-- runs. Tells how many.
create or replace function tenantry_private.job_retry(p_tenant uuid, p_id uuid, p_kind text, p_count int4) returns int4
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $f$
declare
  v_begun int4;
begin
  update tenantry_private.job j set state = 0, attempt = 0, run_at = clock_timestamp()
   where (j.tenant, j.id) in (
     select o.tenant, o.id from tenantry_private.job o
      where o.state = 2 and (p_tenant is null or o.tenant = p_tenant) and (p_id is null or o.id = p_id)
        and (p_kind is null or o.kind = p_kind) and o.mac = tenantry_private.job_mac(o.kid, o)
        and not exists (select from tenantry_private.job w
                         where w.tenant = o.tenant and w.kind = o.kind and w.unique_key = o.unique_key
                           and (w.state <> 2 or (p_id is null and w.id < o.id)))
      order by o.tenant, o.id limit p_count for update of o);
  get diagnostics v_begun = row_count;
  return v_begun;
end $f$;

-- Takes out dead ones by the same choice, and one that is named if it does not run. Tells how many.
create or replace function tenantry_private.job_remove(p_tenant uuid, p_id uuid, p_kind text, p_count int4) returns int4
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $f$
declare
  v_gone int4;
begin
  delete from tenantry_private.job j
   where (j.tenant, j.id) in (select o.tenant, o.id from tenantry_private.job o
                               where (o.state = 2 or (p_id is not null and o.state <> 1))
                                 and (p_tenant is null or o.tenant = p_tenant) and (p_id is null or o.id = p_id)
                                 and (p_kind is null or o.kind = p_kind)
                               order by o.tenant, o.id limit p_count for update);
  get diagnostics v_gone = row_count;
  return v_gone;
end $f$;

-- What goes with a tenant.
create or replace function tenantry_private.job_count(p_tenant uuid, out jobs int8, out schedules int8)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $f$
begin
  jobs := (select count(*) from tenantry_private.job j where j.tenant = p_tenant);
  schedules := (select count(*) from tenantry_private.schedule s where s.tenant = p_tenant);
end $f$;

-- Of a tenant that is purged, in batches, with what would make more of them. Tells how many jobs.
create or replace function tenantry_private.job_purge(p_tenant uuid, p_count int4) returns int4
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $f$
declare
  v_gone int4;
begin
  delete from tenantry_private.schedule where tenant = p_tenant;
  delete from tenantry_private.job
   where tenant = p_tenant and id in (select j.id from tenantry_private.job j where j.tenant = p_tenant limit p_count);
  get diagnostics v_gone = row_count;
  return v_gone;
end $f$;

-- Before a key ends: what it signed and still waits is signed by the one that stays.
create or replace function tenantry_private.job_sign_again(p_from int4, p_to int4) returns void
language sql volatile
begin atomic
  update tenantry_private.job j set kid = p_to, mac = tenantry_private.job_mac(p_to, j)
   where j.kid = p_from and j.mac = tenantry_private.job_mac(p_from, j);
end;
