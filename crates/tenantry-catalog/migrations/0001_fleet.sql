-- The fleet: servers, tenant databases, tenants, placements and the operations that change them.
-- Every statement runs with search_path = tenantry_catalog, in one transaction with its ledger row.

-- One row. The id stands in the name of every role and database that this installation makes.
create table installation (
    singleton boolean primary key default true check (singleton),
    id text not null check (id ~ '^[0-9a-f]{8}$'),
    -- A known text under the master key, so that a wrong key is noticed at start and not at the first log-in.
    key_check bytea not null,
    created_at timestamptz not null default now()
);

-- One PostgreSQL cluster.
create table server (
    id uuid primary key,
    name text not null constraint server_name_taken unique check (name ~ '^[a-z][a-z0-9-]{0,39}$'),
    region text not null default 'default' check (region ~ '^[a-z0-9][a-z0-9-]{0,39}$'),
    -- How many tenants are placed here at most; null is no limit.
    capacity integer check (capacity >= 0),
    -- Counted here, under the row's lock, so that two creations can't both take the last place.
    tenants integer not null default 0 check (tenants >= 0),
    admin_url_sealed bytea not null,
    -- Of the role that copies tenants; made before the role is.
    mover_password_sealed bytea not null,
    state text not null default 'active' check (state in ('active', 'draining')),
    server_version integer not null,
    -- What PostgreSQL calls the cluster: the same cluster is not registered twice.
    system_identifier bigint not null constraint server_already_registered unique,
    version bigint not null default 1,
    created_at timestamptz not null default now(),
    checked_at timestamptz not null default now()
);

-- One database that holds tenants' rows.
create table tenant_database (
    id uuid primary key,
    server uuid not null references server (id),
    name text not null check (octet_length(name) between 1 and 63),
    kind text not null check (kind in ('shared', 'own')),
    state text not null default 'preparing' check (state in ('preparing', 'ready', 'dropping')),
    app_role text not null check (octet_length(app_role) between 1 and 63),
    -- Made and committed before the role is, so that a step which runs twice gives it the same one.
    app_password_sealed bytea not null,
    -- The keys of the seal, two at most while they rotate.
    seal_keys_sealed bytea,
    tier text check (tier in ('sealed', 'signed')),
    bootstrap_version integer,
    -- Checked at connect: a restored or cloned database gets new keys before it serves.
    system_identifier bigint,
    database_oid bigint,
    version bigint not null default 1,
    created_at timestamptz not null default now(),
    constraint tenant_database_name_taken unique (server, name)
);
-- One shared database per server that is being made or is ready.
create unique index tenant_database_one_shared on tenant_database (server) where kind = 'shared' and state <> 'dropping';

create table tenant (
    id uuid primary key,
    slug text not null,
    -- The slug with confusable characters folded.
    slug_skeleton text not null,
    name text not null check (char_length(name) between 1 and 200),
    plan text not null default 'free' check (char_length(plan) between 1 and 40),
    state text not null default 'provisioning'
        check (state in ('provisioning', 'active', 'suspended', 'deleted', 'purged')),
    address text not null default '' check (char_length(address) <= 1000),
    phone text not null default '' check (char_length(phone) <= 100),
    website text not null default '' check (char_length(website) <= 500),
    settings jsonb not null default '{}' check (jsonb_typeof(settings) = 'object'),
    version bigint not null default 1,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    deleted_at timestamptz,
    -- When a deleted tenant is purged.
    purge_after timestamptz,
    constraint tenant_deleted_has_times check ((state = 'deleted') <= (deleted_at is not null and purge_after is not null))
);
-- A purged tenant's slug is free again; a deleted one's is not, since it can be recovered.
create unique index tenant_slug_taken on tenant (slug) where state <> 'purged';
create unique index tenant_slug_looks_like on tenant (slug_skeleton) where state <> 'purged';
create index tenant_by_time on tenant (created_at desc, id desc);
create index tenant_to_purge on tenant (purge_after) where state = 'deleted';

-- Where a tenant lives. One row per tenant; a change is a compare-and-set on the epoch.
create table placement (
    tenant uuid primary key references tenant (id),
    isolation text not null check (isolation in ('shared', 'schema', 'database')),
    tenant_database uuid not null references tenant_database (id),
    schema_name text not null check (octet_length(schema_name) between 1 and 63),
    epoch bigint not null default 1 check (epoch > 0),
    -- False until provisioning has ended: nobody is routed here before.
    ready boolean not null default false,
    changed_at timestamptz not null default now()
);
create index placement_by_database on placement (tenant_database, schema_name);
-- A database of one's own holds one tenant, an own schema too.
create unique index placement_own_schema on placement (tenant_database, schema_name) where isolation <> 'shared';

-- A durable piece of work.
create table operation (
    id uuid primary key,
    kind text not null check (kind in ('provision', 'prepare_database', 'suspend', 'resume', 'purge')),
    tenant uuid references tenant (id),
    tenant_database uuid references tenant_database (id),
    state text not null default 'pending'
        check (state in ('pending', 'running', 'undoing', 'done', 'failed', 'cancelled')),
    -- The last step that was begun; a runner that takes over begins there again.
    step text not null default '',
    progress jsonb not null default '{}',
    input jsonb not null default '{}',
    -- What an operator reads: a code and a sentence.
    error_code text,
    error text,
    attempts integer not null default 0,
    run_after timestamptz not null default now(),
    lease_owner uuid,
    lease_until timestamptz,
    -- Grows with each claim; a runner that lost its lease can write nothing more.
    fencing bigint not null default 0,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    finished_at timestamptz
);
create unique index operation_one_live_per_tenant on operation (tenant)
    where state in ('pending', 'running', 'undoing');
create unique index operation_one_live_per_database on operation (tenant_database)
    where state in ('pending', 'running', 'undoing') and tenant is null;
create index operation_live on operation (run_after) where state in ('pending', 'running', 'undoing');
create index operation_by_tenant on operation (tenant, created_at desc);

-- What an operation is about to make outside of the catalog: committed before the object exists, so that clean-up after
-- a crash knows it. Clean-up drops only what stands here, and only if the object carries the operation's mark.
create table operation_cleanup (
    operation uuid not null references operation (id),
    kind text not null check (kind in ('schema', 'database', 'role', 'rows')),
    server uuid not null references server (id) on delete cascade,
    database_name text not null,
    name text not null,
    created_at timestamptz not null default now(),
    -- Set when the object is known to be gone, or to be kept since the operation succeeded.
    settled_at timestamptz,
    primary key (operation, kind, server, database_name, name)
);

-- A repeated request with the same key gets the first one's outcome.
create table idempotency (
    -- Who asked: keys of different callers never meet.
    caller text not null,
    key text not null check (octet_length(key) between 1 and 255),
    -- SHA-256 of the request: the same key with another request is refused.
    request_hash bytea not null,
    tenant uuid references tenant (id),
    operation uuid references operation (id),
    created_at timestamptz not null default now(),
    primary key (caller, key)
);
create index idempotency_by_time on idempotency (created_at);

-- Which isolation, server and region a plan gives where a request names none.
create table plan_rule (
    plan text primary key,
    isolation text not null check (isolation in ('shared', 'schema', 'database')),
    server text,
    region text
);

-- What each placement's own ledger says, as last seen: for lists and status without asking every database.
create table app_migration (
    tenant_database uuid not null references tenant_database (id) on delete cascade,
    schema_name text not null,
    version bigint not null,
    name text not null,
    checksum text not null,
    applied_at timestamptz not null default now(),
    primary key (tenant_database, schema_name, version)
);
-- The last attempt at each placement that is behind: stragglers.
create table app_migration_failure (
    tenant_database uuid not null references tenant_database (id) on delete cascade,
    schema_name text not null,
    version bigint not null,
    error text not null,
    failed_at timestamptz not null default now(),
    primary key (tenant_database, schema_name)
);

-- What the application's migrations have become, so that not every process has to work it out on a server.
create table app_derived (
    -- SHA-256 over the files and the engine's version.
    key bytea primary key,
    derived text not null,
    created_at timestamptz not null default now()
);

-- Who changed what. Chained by hash: each row's hash covers the one before, so that tampering shows.
create table audit_log (
    id bigint generated always as identity primary key,
    at timestamptz not null default clock_timestamp(),
    actor text not null,
    action text not null,
    tenant uuid,
    target text not null default '',
    before jsonb,
    after jsonb,
    origin text not null default '',
    request_id text not null default '',
    previous_hash bytea not null,
    hash bytea not null
);
create index audit_log_by_tenant on audit_log (tenant, id desc);

-- What caches must drop, for processes that missed the notification.
create table change (
    id bigint generated always as identity primary key,
    -- The writing transaction: readers ask from the oldest transaction that was still running at their last look,
    -- since ids become visible out of order.
    xid bigint not null default (pg_current_xact_id()::text::bigint),
    at timestamptz not null default now(),
    payload text not null
);
create index change_by_xid on change (xid);
create index change_by_time on change (at);
