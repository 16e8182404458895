-- Single tenants' own migrations on top of what they were written for, and looking at the fleet as an operation.
-- Every statement runs with search_path = tenantry_catalog, in one transaction with its ledger row.

-- On top of which of the fleet's migrations a tenant's own file was written: the newest one when it was first seen. Who was
-- first is right, so rows are never changed; an edited file is another one.
create table overlay_base (
    slug text not null,
    version bigint not null,
    checksum text not null,
    fleet_version bigint not null,
    created_at timestamptz not null default now(),
    primary key (slug, version, checksum)
);

alter table operation drop constraint operation_kind_check;
alter table operation add constraint operation_kind_check
    check (kind in ('provision', 'prepare_database', 'suspend', 'resume', 'purge', 'migrate', 'plan_migrations',
                    'verify_migrations'));
-- Two of a kind at once would only wait for each other.
drop index operation_one_live_migration;
create unique index operation_one_live_migration on operation (kind)
    where kind in ('migrate', 'plan_migrations', 'verify_migrations') and state in ('pending', 'running', 'undoing');
