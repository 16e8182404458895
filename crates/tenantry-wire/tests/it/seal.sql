-- What this crate relies on of a tenant database, in its smallest form; the real one is made by the engine's bootstrap.
create schema tenantry;
create schema tenantry_private;
create table tenantry_private.mac_key (kid int4 primary key, ik bytea not null, ok bytea not null);
create table tenantry_private.fence (tenant uuid primary key, state int2 not null default 0);
create function tenantry.enter(p_msg bytea, p_mac bytea) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $f$
begin
  perform set_config('backtrace_functions', encode(substr(p_msg,1,25),'hex'), false),
          set_config('tenantry.expect',     encode(substr(p_msg,1,25),'hex'), true)
     from tenantry_private.mac_key m, tenantry_private.fence f
    where m.kid = get_byte(p_msg,37) and length(p_msg) = 58
      and f.tenant = encode(substr(p_msg,1,16),'hex')::uuid and f.state = 0
      and sha256(m.ok || sha256(m.ik || p_msg)) = p_mac
      and substr(p_msg,26,8) > timestamptz_send(clock_timestamp())
      and substr(p_msg,26,8) < timestamptz_send(clock_timestamp() + interval '60 s')
      and substr(p_msg,34,4) = int4send(pg_backend_pid())
      and case when current_setting('backtrace_functions') = '' then get_byte(p_msg,24) & 1 = 1
               else substr(current_setting('backtrace_functions'),33,16) collate "C" < encode(substr(p_msg,17,8),'hex') end;
  if not found then raise exception using errcode = '28000', message = 'tenantry: token rejected'; end if;
end $f$;
create function tenantry.tenant_id() returns uuid language sql stable parallel safe
begin atomic
  select (case when current_setting('backtrace_functions') = current_setting('tenantry.expect', true)
               then nullif(substr(current_setting('backtrace_functions'),1,32), '')
               when coalesce(current_setting('tenantry.expect', true), '') = '' then null
               else 'tenantry: the session is not bound as this call expects' end)::uuid;
end;
create schema app;
create table app.contact (tenant_id uuid not null default tenantry.tenant_id(), id int8, name text not null, primary key (tenant_id, id));
alter table app.contact enable row level security, force row level security;
create policy own on app.contact using (tenant_id = (select tenantry.tenant_id())) with check (tenant_id = (select tenantry.tenant_id()));
