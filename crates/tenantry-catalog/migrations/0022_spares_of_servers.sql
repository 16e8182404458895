-- How many spare homes are kept on a server, where that is not as configured for all.
-- Every statement runs with search_path = tenantry_catalog, in one transaction with its ledger row.

alter table server
    -- Null for as many as the configuration of the processes that keep them says; 0 for none. No more than that can say.
    add column spare_schemas integer check (spare_schemas between 0 and 65535),
    add column spare_databases integer check (spare_databases between 0 and 65535);
