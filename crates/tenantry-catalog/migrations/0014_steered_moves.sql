-- Moves can be paused, called off, taken back and finished by operators.
-- Every statement runs with search_path = tenantry_catalog, in one transaction with its ledger row.

-- What an operator wants of an operation; whoever works on it looks.
alter table operation add column wish text check (wish in ('pause', 'abort', 'rollback', 'finish'));

alter table operation drop constraint operation_state_check;
alter table operation add constraint operation_state_check
    check (state in ('pending', 'running', 'undoing', 'paused', 'done', 'failed', 'cancelled'));

-- A paused operation is a live one that nobody takes.
drop index operation_one_live_per_tenant;
create unique index operation_one_live_per_tenant on operation (tenant)
    where state in ('pending', 'running', 'undoing', 'paused');
drop index operation_one_live_per_database;
create unique index operation_one_live_per_database on operation (tenant_database)
    where state in ('pending', 'running', 'undoing', 'paused') and tenant is null;
