-- Why a tenant may not be purged, whatever its retention time says.
-- Every statement runs with search_path = tenantry_catalog, in one transaction with its ledger row.
alter table tenant add column legal_hold text check (char_length(legal_hold) between 1 and 500);
