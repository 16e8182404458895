-- How often a tenant is backed up, where it is not as often as the fleet; and which tenants are drills.
-- Every statement runs with search_path = tenantry_catalog, in one transaction with its ledger row.

create table backup_schedule (
    tenant uuid primary key references tenant (id),
    -- How old its newest backup gets before another is made; 0: none is made by the clock.
    interval_s float8 not null check (interval_s >= 0 and interval_s < 'infinity'),
    set_at timestamptz not null default now()
);

-- Tenants that prove that a backup restores: gone with the drill, or removed by another process when nothing was heard of it.
create table backup_drill (
    -- Noted before there is such a tenant.
    tenant uuid primary key,
    seen_at timestamptz not null default now()
);
