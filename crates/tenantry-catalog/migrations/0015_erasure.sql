-- What was looked for of tenants after they were purged, and what was found.
-- Every statement runs with search_path = tenantry_catalog, in one transaction with its ledger row.

create table erasure (
    id uuid primary key,
    tenant uuid not null references tenant (id),
    -- As it was called: a purged tenant's slug is free again.
    slug text not null,
    verdict text not null check (verdict in ('erased', 'left', 'not_shown')),
    -- Header, certificate and signature, as RFC 7515 writes them in one line.
    jws text not null,
    created_at timestamptz not null default now()
);
create index erasure_of_tenant on erasure (tenant, created_at desc);
create index erasure_by_slug on erasure (slug, created_at desc);
