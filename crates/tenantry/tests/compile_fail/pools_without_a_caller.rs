//! The pools, whose calls take any caller, are not to be had.

fn unscoped(tenantry: tenantry::Tenantry) {
    let _ = tenantry.pools();
}

fn main() {}
