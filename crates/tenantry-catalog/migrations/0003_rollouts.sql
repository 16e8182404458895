-- Migrations of the application over the whole fleet: as an operation, and the version below which a tenant is not served.
-- Every statement runs with search_path = tenantry_catalog, in one transaction with its ledger row.

-- Tenants whose schema is behind it are refused until they are migrated; 0 for none.
alter table installation add column schema_version_min bigint not null default 0 check (schema_version_min >= 0);

alter table operation drop constraint operation_kind_check;
alter table operation add constraint operation_kind_check
    check (kind in ('provision', 'prepare_database', 'suspend', 'resume', 'purge', 'migrate'));
-- Two at once would only wait for each other.
create unique index operation_one_live_migration on operation (kind)
    where kind = 'migrate' and state in ('pending', 'running', 'undoing');
