-- What sets a new password once, for whoever has forgotten the old one.
-- Every statement runs with search_path = tenantry_catalog, in one transaction with its ledger row.

create table password_reset (
    -- A later one takes the place of the one before.
    account uuid primary key references account (id) on delete cascade,
    -- SHA-256; the token is random, so no salt is needed.
    hash bytea not null constraint password_reset_taken unique check (octet_length(hash) = 32),
    created_by text not null,
    created_at timestamptz not null default now(),
    expires_at timestamptz not null
);
create index password_reset_by_expiry on password_reset (expires_at);
