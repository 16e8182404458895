-- In this file no constant holds a backslash: bodies are parsed in the caller's session, whose `standard_conforming_strings`
-- anybody may turn off.

-- T2: the carrier is a parameter that only this schema's owner may set. The session is bound once; each call states the
-- whole seal it expects. An expectation can only switch access off, so it needs no secret.
--
-- The carrier holds the tenant (32 hexadecimal digits) and then the whole seal (50: tenant, counter, role, flag). What stands
-- in it before the expectation is the tenant, or no uuid: ADR 0032.

-- What the carrier holds of a binding: the first 25 bytes of a message are its seal.
create or replace function tenantry_private.carried(p_msg bytea) returns text language sql immutable parallel safe
begin atomic
  select encode(substr(p_msg, 1, 16) || substr(p_msg, 1, 25), 'hex');
end;

create or replace function tenantry.enter(p_msg bytea, p_mac bytea) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $f$
begin
  if octet_length(p_msg) = 58 then
    -- binds the session, and opens this transaction
    perform set_config('{carrier}', tenantry_private.carried(p_msg), false),
            set_config('tenantry.expect', encode(substr(p_msg, 1, 25), 'hex'), true),
            set_config('tenantry.account', coalesce(nullif(encode(substr(p_msg, 39, 16), 'hex'), '00000000000000000000000000000000'), ''), true)
       from tenantry_private.mac_key m, tenantry_private.fence f
      where m.kid = get_byte(p_msg, 37)
        and m.database_name = current_database()
        and f.tenant = encode(substr(p_msg, 1, 16), 'hex')::uuid
        and f.state = 0
        and substr(p_msg, 55, 4) = substr(int8send(f.epoch), 5, 4)
        and sha256(m.ok || sha256(m.ik || p_msg || tenantry_private.place())) = p_mac
        -- the signer's type accepts for 30 s; whoever else has a key gets no more than 60
        and substr(p_msg, 26, 8) > timestamptz_send(clock_timestamp())
        and substr(p_msg, 26, 8) < timestamptz_send(clock_timestamp() + interval '60 s')
        and substr(p_msg, 34, 4) = int4send(pg_backend_pid())
        -- single use: the counter grows. After a reset only a token that was made for a fresh backend binds; the raw lane
        -- is left by `discard all` only.
        and case when current_setting('{carrier}') = '' then get_byte(p_msg, 24) & 1 = 1
                 else substr(current_setting('{carrier}'), 65, 16) collate "C" < encode(substr(p_msg, 17, 8), 'hex')
                      and substr(current_setting('{carrier}'), 82, 1) in ('0', '1') end;
    if found then
      return;
    end if;
  end if;
  perform tenantry_private.refuse(p_msg, p_mac, int4send(pg_backend_pid()));
end $f$;

-- Behind a foreign pooler in transaction mode: carrier and expectation end with the transaction, and there is one entry
-- in each. The token names no backend, so whoever sees it may use it until it expires: off unless allowed.
create or replace function tenantry.enter_pooled(p_msg bytea, p_mac bytea) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $f$
begin
  if octet_length(p_msg) = 58 then
    perform set_config('{carrier}', tenantry_private.carried(p_msg), true),
            set_config('tenantry.expect', encode(substr(p_msg, 1, 25), 'hex'), true),
            set_config('tenantry.account', coalesce(nullif(encode(substr(p_msg, 39, 16), 'hex'), '00000000000000000000000000000000'), ''), true)
       from tenantry_private.mac_key m, tenantry_private.fence f, tenantry_private.tenant_database d
      where m.kid = get_byte(p_msg, 37)
        and m.database_name = current_database()
        and d.pooled
        and f.tenant = encode(substr(p_msg, 1, 16), 'hex')::uuid
        and f.state = 0
        and substr(p_msg, 55, 4) = substr(int8send(f.epoch), 5, 4)
        and sha256(m.ok || sha256(m.ik || p_msg || tenantry_private.place())) = p_mac
        and substr(p_msg, 26, 8) > timestamptz_send(clock_timestamp())
        and substr(p_msg, 26, 8) < timestamptz_send(clock_timestamp() + interval '60 s')
        and substr(p_msg, 34, 4) = int4send(0)
        and current_setting('{carrier}') = '';
    if found then
      return;
    end if;
  end if;
  perform tenantry_private.refuse(p_msg, p_mac, int4send(0));
end $f$;

-- A context for this transaction, without a token: for `act_for` only.
create or replace function tenantry_private.carry(p_seal text) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $f$
begin
  perform set_config('{carrier}', left(p_seal, 32) || p_seal, true), set_config('tenantry.expect', p_seal, true), set_config('tenantry.account', '', true);
end $f$;

-- Ends a binding and keeps what guards the next one: the counter and the raw lane's mark.
create or replace function tenantry.leave() returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $f$
begin
  perform set_config('{carrier}', repeat('z', 64) || substr(current_setting('{carrier}'), 65, 16) || '0'
                                  || substr(current_setting('{carrier}'), 82, 1), false),
          set_config('tenantry.expect', '', true)
    where current_setting('{carrier}') <> '';
end $f$;

-- Makes `tenantry.tenant_id()`, the only function that policies read the tenant from, with the fenced tenants as constants.
-- `create or replace` of an inlined function invalidates every backend's plans: each transaction that starts after the
-- commit sees it, and while nothing is fenced it costs nothing.
--
-- The body is inlined, and `begin atomic` binds its names now. What each statement pays is above all the making of its
-- expression nodes, so there are few. The tenant is what stands in the carrier before the expectation. Whatever that is, it
-- begins where the carrier begins, and only the carrier's first 32 characters are a uuid: so there is this tenant or none.
-- Without an expectation there is null. A mismatch is an error and not zero rows: nothing is cut off then, and the cast of
-- carrier and sentence raises 22P02, which needs no function call that each statement would pay for.
create or replace function tenantry_private.compile_fence() returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $f$
declare
  v_carrier text := $t$current_setting('{carrier}') || ' tenantry: the session is not bound as this call expects'$t$;
  v_fenced text;
begin
  select string_agg(replace(tenant::text, '-', ''), ',' order by tenant) into v_fenced
    from tenantry_private.fence where fenced_at is not null;
  if v_fenced is not null then
    v_carrier := format($t$case when substr(current_setting('{carrier}'), 33) = current_setting('tenantry.expect', true)
                                 and substr(current_setting('{carrier}'), 1, 32) = any (%2$L::text[])
                           then 'tenantry: fenced: look the placement up again' else %1$s end$t$,
                        v_carrier, '{' || v_fenced || '}');
  end if;
  execute $t$create or replace function tenantry.tenant_id() returns uuid language sql stable parallel safe begin atomic
    select split_part($t$ || v_carrier || $t$, nullif(current_setting('tenantry.expect', true), ''), 1)::uuid; end$t$;
end $f$;
select tenantry_private.compile_fence();

-- Null without a context, an error for a viewer: a refused write says why.
create or replace function tenantry.may_write() returns boolean language sql stable parallel safe
begin atomic
  select (case coalesce(current_setting('tenantry.expect', true), '')
            when '' then null
            when substr(current_setting('{carrier}'), 33)
              then case when substr(current_setting('{carrier}'), 81, 1) > '0' collate "C" then 'true'
                        else 'tenantry: the role viewer may not write' end
            else 'tenantry: the session is not bound as this call expects' end)::boolean;
end;

-- The same of the binding alone, whatever the call expects: for checks of new rows, which stand beside the floor, and the floor
-- compares carrier and expectation. Both together say what `may_write` and the floor would, at half the price. In the
-- carrier stands nothing, or what `enter` and `leave` wrote: a hexadecimal digit.
create or replace function tenantry.binding_may_write() returns boolean language sql stable parallel safe
begin atomic
  select (case substr(current_setting('{carrier}'), 81, 1)
            when '' then null
            when '0' then 'tenantry: the role viewer may not write'
            else 'true' end)::boolean;
end;

-- Whether the role is at least the one named; null for a word that names none.
create or replace function tenantry.has_role(p_role text) returns boolean language sql stable parallel safe
begin atomic
  select case when substr(current_setting('{carrier}'), 33) = current_setting('tenantry.expect', true) and current_setting('{carrier}') <> ''
              then substr(current_setting('{carrier}'), 81, 1) >= case p_role when 'viewer' then '0' when 'member' then '1'
                        when 'admin' then '2' when 'owner' then '3' end collate "C"
              else false end;
end;

drop function if exists tenantry_private.current_seal();
drop function if exists tenantry_private.enter_signed(bytea);
drop function if exists tenantry_private.verify_signed(text, int4);
drop function if exists tenantry_private.sign_signed(bytea, int4);
