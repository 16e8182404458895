-- What happened, told to whoever wants to know. The audit log is the outbox: an entry is written last in the transaction that
-- does what it tells, by one writer at a time, so its numbers grow in the order in which transactions took effect.

-- Writes an entry, in one round trip. In a volatile function each statement has a snapshot of its own, and the second one's is taken
-- when the lock is held, so that it sees the last row.
create function append_to_audit_log(
    p_actor text, p_action text, p_tenant uuid, p_target text, p_before jsonb, p_after jsonb, p_origin text, p_request_id text
) returns void language plpgsql volatile as $f$
begin
    perform pg_advisory_xact_lock(8387231245791425121);
    insert into audit_log (at, actor, action, tenant, target, before, after, origin, request_id, previous_hash, hash)
    select l.*, p.hash, sha256(p.hash || convert_to(jsonb_build_array(
        extract(epoch from l.at)::text, l.actor, l.action, l.tenant, l.target, l.before, l.after, l.origin, l.request_id
    )::text, 'UTF8'))
    from (values (clock_timestamp(), p_actor, p_action, p_tenant, p_target, p_before, p_after, p_origin, p_request_id))
         as l (at, actor, action, tenant, target, before, after, origin, request_id),
         (select coalesce((select hash from audit_log order by id desc limit 1), '') as hash) as p;
end $f$;

-- Who is told, and how far.
create table event_consumer (
    name text primary key check (name <> '' and length(name) <= 100),
    -- All entries up to this one were delivered, or wait in `event_parked`.
    position bigint not null,
    -- Which process delivers, and until when the others leave it alone.
    lease uuid,
    leased_until timestamptz not null default '-infinity',
    created_at timestamptz not null default now()
);

-- Tenants whose events wait because one of them could not be handled; others' go on.
create table event_parked (
    consumer text not null references event_consumer on delete cascade,
    -- The zero id for what belongs to no tenant.
    tenant uuid not null,
    -- Entries of the tenant from this one on, up to the consumer's position, are still to be delivered.
    position bigint not null,
    attempts integer not null default 1,
    error text not null,
    try_at timestamptz not null,
    primary key (consumer, tenant)
);
