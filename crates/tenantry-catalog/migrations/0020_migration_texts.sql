-- The application's migrations as they were, so that it can be shown how one that was edited after it had been applied differs from that.
-- Every statement runs with search_path = tenantry_catalog, in one transaction with its ledger row.

create table app_text (
    -- As ledgers hold it.
    checksum text primary key,
    text text not null,
    kept_at timestamptz not null default now()
);
