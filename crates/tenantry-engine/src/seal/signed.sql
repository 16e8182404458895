-- T1: for servers whose administrator may not grant the carrier parameter. `enter` checks the token once and leaves a
-- statement of its own in an ordinary setting, signed with the database's key and bound to this backend and this
-- transaction; each statement verifies that. Copied into another transaction or backend it is worth nothing.
-- The functions have the names and meanings of the sealed tier, so that policies and readers are the same.

-- The signed statement for a payload: 25 bytes of seal, key id, backend, start of the transaction. Its length differs
-- from every token's, with what says where the backend runs (8 bytes or none), so neither can be taken for the other.
create or replace function tenantry_private.sign_signed(p_payload bytea, p_kid int4) returns text
language sql stable
begin atomic
  select encode(p_payload, 'hex') || encode(sha256(m.ok || sha256(m.ik || p_payload || tenantry_private.place())), 'hex')
    from tenantry_private.mac_key m where m.kid = p_kid and m.database_name = current_database();
end;

-- The payload of a signed statement, if it is genuine.
create or replace function tenantry_private.verify_signed(p_signed text, p_kid_at int4) returns bytea
language plpgsql stable set search_path = pg_catalog, pg_temp as $f$
declare
  v_payload bytea;
begin
  if p_signed !~ '^([0-9a-f]{2})+$' or length(p_signed) <= 64 then
    return null;
  end if;
  v_payload := decode(left(p_signed, -64), 'hex');
  if octet_length(v_payload) <= p_kid_at then
    return null;
  end if;
  if tenantry_private.sign_signed(v_payload, get_byte(v_payload, p_kid_at)) = p_signed then
    return v_payload;
  end if;
  return null;
end $f$;

-- The seal in hex; null without a context; an error where the session is not bound as the call expects.
create or replace function tenantry_private.current_seal() returns text
language plpgsql stable parallel restricted security definer set search_path = pg_catalog, pg_temp as $f$
declare
  v_payload bytea;
begin
  if coalesce(current_setting('tenantry.expect', true), '') = '' then
    return null;
  end if;
  v_payload := tenantry_private.verify_signed(coalesce(current_setting('tenantry.signed', true), ''), 25);
  if octet_length(v_payload) in (38, 39)
     and substr(v_payload, 27, 4) = int4send(pg_backend_pid())
     and substr(v_payload, 31, 8) = timestamptz_send(transaction_timestamp())
     and encode(substr(v_payload, 1, 25), 'hex') = current_setting('tenantry.expect', true) then
    -- Transactions that one message of the simple protocol holds start at the same moment, so a statement of the first is
    -- taken in the second; hence the fence is read here as well.
    if octet_length(v_payload) = 39
       or exists (select from tenantry_private.fence f where f.tenant = encode(substr(v_payload, 1, 16), 'hex')::uuid and f.state = 0) then
      return encode(substr(v_payload, 1, 25), 'hex');
    end if;
    raise exception using errcode = '22P02', message = 'tenantry: fenced: look the placement up again';
  end if;
  raise exception using errcode = '22P02', message = 'tenantry: the session is not bound as this call expects';
end $f$;

create or replace function tenantry_private.enter_signed(p_msg bytea) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $f$
begin
  perform set_config('tenantry.signed', tenantry_private.sign_signed(
            substr(p_msg, 1, 25) || substr(p_msg, 38, 1) || int4send(pg_backend_pid()) || timestamptz_send(transaction_timestamp()),
            get_byte(p_msg, 37)), true),
          set_config('tenantry.expect', encode(substr(p_msg, 1, 25), 'hex'), true),
          set_config('tenantry.account', coalesce(nullif(encode(substr(p_msg, 39, 16), 'hex'), '00000000000000000000000000000000'), ''), true);
end $f$;

create or replace function tenantry.enter(p_msg bytea, p_mac bytea) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $f$
declare
  v_last text := coalesce(current_setting('tenantry.last', true), '');
  v_payload bytea;
  v_newer boolean;
begin
  if octet_length(p_msg) = 58 and tenantry_private.is_genuine(p_msg, p_mac, int4send(pg_backend_pid())) then
    -- The counter of the last token, signed and bound to this backend: a reset is noticed, as in the sealed tier.
    if v_last = '' then
      v_newer := get_byte(p_msg, 24) & 1 = 1;
    else
      v_payload := tenantry_private.verify_signed(v_last, 13);
      v_newer := octet_length(v_payload) = 14
        and substr(v_payload, 10, 4) = int4send(pg_backend_pid())
        and substr(v_payload, 1, 8) < substr(p_msg, 17, 8)
        and get_byte(v_payload, 8) & 2 = 0;
    end if;
    if v_newer and exists (select from tenantry_private.fence f
                            where f.tenant = encode(substr(p_msg, 1, 16), 'hex')::uuid
                              and f.state = 0
                              and substr(p_msg, 55, 4) = substr(int8send(f.epoch), 5, 4)) then
      perform set_config('tenantry.last', tenantry_private.sign_signed(
                substr(p_msg, 17, 9) || int4send(pg_backend_pid()) || substr(p_msg, 38, 1), get_byte(p_msg, 37)), false);
      perform tenantry_private.enter_signed(p_msg);
      return;
    end if;
  end if;
  perform tenantry_private.refuse(p_msg, p_mac, int4send(pg_backend_pid()));
end $f$;

create or replace function tenantry.enter_pooled(p_msg bytea, p_mac bytea) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $f$
begin
  if octet_length(p_msg) = 58
     and coalesce(current_setting('tenantry.signed', true), '') = ''
     and tenantry_private.is_genuine(p_msg, p_mac, int4send(0))
     and exists (select from tenantry_private.fence f, tenantry_private.tenant_database d
                  where d.pooled
                    and f.tenant = encode(substr(p_msg, 1, 16), 'hex')::uuid
                    and f.state = 0
                    and substr(p_msg, 55, 4) = substr(int8send(f.epoch), 5, 4)) then
    perform tenantry_private.enter_signed(p_msg);
    return;
  end if;
  perform tenantry_private.refuse(p_msg, p_mac, int4send(0));
end $f$;

-- A context for this transaction, without a token: for `act_for` only.
create or replace function tenantry_private.carry(p_seal text) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $f$
declare
  v_kid int4 := (select kid from tenantry_private.mac_key order by created_at desc, kid limit 1);
begin
  perform set_config('tenantry.signed', case when p_seal = '' then '' else tenantry_private.sign_signed(
            -- a byte longer than what `enter` leaves: the reader then asks no fence
            decode(p_seal, 'hex') || substr(int4send(v_kid), 4, 1) || int4send(pg_backend_pid()) || timestamptz_send(transaction_timestamp())
              || substr(int4send(0), 4, 1),
            v_kid) end, true),
          set_config('tenantry.expect', p_seal, true),
          set_config('tenantry.account', '', true);
end $f$;

create or replace function tenantry.leave() returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $f$
begin
  perform set_config('tenantry.signed', '', true), set_config('tenantry.expect', '', true);
end $f$;

create or replace function tenantry.tenant_id() returns uuid language sql stable parallel restricted
begin atomic
  select nullif(substr(tenantry_private.current_seal(), 1, 32), '')::uuid;
end;

create or replace function tenantry.may_write() returns boolean language sql stable parallel restricted
begin atomic
  select (case substr(tenantry_private.current_seal(), 49, 1)
            when '0' then 'tenantry: the role viewer may not write'
            when '1' then 'true' when '2' then 'true' when '3' then 'true' end)::boolean;
end;

-- What a binding is worth is known only when its signature was verified.
create or replace function tenantry.binding_may_write() returns boolean language sql stable parallel restricted
begin atomic
  select tenantry.may_write();
end;

create or replace function tenantry.has_role(p_role text) returns boolean language sql stable parallel restricted
begin atomic
  select coalesce(substr(tenantry_private.current_seal(), 49, 1) >= case p_role when 'viewer' then '0' when 'member' then '1'
           when 'admin' then '2' when 'owner' then '3' end collate "C", false);
end;

-- Each statement reads the fence, and those with an older snapshot are waited for: nothing to compile.
create or replace function tenantry_private.compile_fence() returns void language sql volatile
begin atomic
  select;
end;
