-- What plans give at most, what tenants have used, and who has more than the plan gives.
-- Every statement runs with search_path = tenantry_catalog, in one transaction with its ledger row.

-- What each tenant of a plan may use. Null is no limit; a plan without a row has none.
create table plan_limit (
    plan text primary key check (char_length(plan) between 1 and 40),
    requests_per_s integer check (requests_per_s > 0),
    burst integer check (burst > 0),
    concurrent integer check (concurrent > 0),
    statement_ms integer check (statement_ms > 0),
    members integer check (members > 0),
    storage_bytes bigint check (storage_bytes > 0),
    -- Rows by table.
    rows jsonb not null default '{}' check (jsonb_typeof(rows) = 'object'),
    changed_at timestamptz not null default now()
);

-- What a tenant used on a day, in UTC, over all processes.
create table usage_day (
    tenant uuid not null references tenant (id),
    day date not null,
    requests bigint not null default 0,
    limited bigint not null default 0,
    failed bigint not null default 0,
    busy_ms bigint not null default 0,
    -- As last measured on that day, for tenants whose plan limits them.
    bytes bigint,
    rows jsonb,
    updated_at timestamptz not null default now(),
    primary key (tenant, day)
);
create index usage_day_by_day on usage_day (day);
create index usage_day_by_update on usage_day (updated_at);

-- More than the plan gives of what is measured: such a tenant adds nothing.
create table plan_excess (
    tenant uuid not null references tenant (id),
    -- `storage_bytes`, or `rows.` and the table.
    limit_name text not null,
    quota bigint not null,
    used bigint not null,
    since timestamptz not null default now(),
    primary key (tenant, limit_name)
);
