-- Backups of single tenants: what stands in the object store, and the key that opens it. The key erased, they are erased.

create table backup_key (
    tenant uuid primary key references tenant (id),
    key_sealed bytea not null,
    created_at timestamptz not null default now()
);

create table backup (
    id uuid primary key,
    tenant uuid not null references tenant (id),
    -- writing: recorded before anything is in the store, and what is left of one whose process ended; kept: all of it is there.
    state text not null default 'writing' check (state in ('writing', 'kept')),
    -- The moment of which it is.
    taken_at timestamptz,
    bytes bigint,
    rows bigint,
    -- SHA-256 of what the archive's signature covers.
    digest text,
    -- When a drill last restored it.
    drilled_at timestamptz,
    created_at timestamptz not null default now()
);
create index backup_of_tenant on backup (tenant, created_at desc);
-- Two processes that keep the same schedule make one.
create unique index backup_one_at_a_time on backup (tenant) where state = 'writing';
