-- Which processes serve requests, and how many jobs wait.
-- Every statement runs with search_path = tenantry_catalog, in one transaction with its ledger row.

-- Those that serve requests divide what plans give of them. True where an older program does not say it: such a process counts, and
-- together they give too little rather than too much.
alter table connection_share add column serves boolean not null default true;

-- What each tenant database said last of its jobs, for figures of the fleet: so it is asked by one process, not by each.
create table job_backlog (
    tenant_database uuid primary key references tenant_database (id) on delete cascade,
    -- Due, and taken by no worker.
    waiting bigint not null default 0,
    -- Since when the first of them has been due.
    oldest_due_at timestamptz,
    dead bigint not null default 0,
    -- Null: it has not said anything yet.
    counted_at timestamptz,
    -- When it was asked last, with or without an answer: one that gives none keeps nobody from being asked.
    asked_at timestamptz not null default now()
);
