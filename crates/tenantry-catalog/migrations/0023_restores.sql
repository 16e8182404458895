-- Putting a backup in the place of a tenant's rows, as an operation.
-- Every statement runs with search_path = tenantry_catalog, in one transaction with its ledger row.

alter table operation drop constraint operation_kind_check;
alter table operation add constraint operation_kind_check
    check (kind in ('provision', 'prepare_database', 'suspend', 'resume', 'purge', 'migrate', 'plan_migrations',
                    'verify_migrations', 'move', 'restore'));
