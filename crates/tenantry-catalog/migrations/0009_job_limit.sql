-- How many jobs a plan's tenants may have.
-- Every statement runs with search_path = tenantry_catalog, in one transaction with its ledger row.
alter table plan_limit add column jobs integer check (jobs > 0);
