-- One budget of connections per server, divided among the processes that use it.
-- Every statement runs with search_path = tenantry_catalog, in one transaction with its ledger row.

alter table server
    -- Connections of the application's roles, over all tenant databases and all processes.
    add column connections integer not null default 64 check (connections > 0),
    -- How the application reaches the server where that differs from the administrator's address: a pooler.
    add column app_address text check (octet_length(app_address) between 3 and 300),
    -- What stands there: null for PostgreSQL itself.
    add column pooler text check (pooler in ('transaction'));

-- What each process may use of it.
create table connection_share (
    server uuid not null references server (id) on delete cascade,
    -- Made anew with each start.
    process uuid not null,
    joined_at timestamptz not null default clock_timestamp(),
    -- More it would not use.
    wanted integer not null check (wanted >= 0),
    -- It has no more connections than this, whatever it hears or does not hear. It says a smaller number only after it has
    -- closed the others, and a larger one is given only out of what nobody holds: so the sum stays within the budget.
    held integer not null check (held >= 0),
    -- From here on others may take what it holds: its lease, and the time it needs to close its connections by itself.
    kept_until timestamptz not null,
    primary key (server, process)
);
