//! A scope takes a verified context, and an id is none.

fn from_an_id(tenantry: tenantry::Tenantry, tenant: tenantry::TenantId) {
    let _ = tenantry.scope(tenant);
}

fn main() {}
