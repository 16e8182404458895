-- Moves that copy while the tenant writes make a slot and a publication at its old home.
-- Every statement runs with search_path = tenantry_catalog, in one transaction with its ledger row.

alter table operation_cleanup drop constraint operation_cleanup_kind_check;
alter table operation_cleanup add constraint operation_cleanup_kind_check
    check (kind in ('schema', 'database', 'role', 'rows', 'slot', 'publication'));
