//! The context of a scope can be read and not changed.

fn change(scope: &mut tenantry::Scope, other: tenantry::TenantId) {
    scope.context().tenant = other;
}

fn main() {}
