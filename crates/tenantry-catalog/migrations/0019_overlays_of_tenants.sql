-- Whose own files those are of which the fleet's version is known: a tenant that is renamed keeps what its files were written for.
-- Every statement runs with search_path = tenantry_catalog, in one transaction with its ledger row.

-- Null where the files were seen before the tenant was made.
alter table overlay_base add column tenant uuid references tenant (id);
update overlay_base as o set tenant = t.id from tenant as t where t.slug = o.slug and t.state <> 'purged';
create index overlay_base_by_tenant on overlay_base (tenant);
