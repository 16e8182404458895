//! What a command names by slug, name or id.

use tenantry_core::TenantId;
use tenantry_ops::{Ops, TenantRef};

use crate::{connect::authority, failure::Failure};

/// The tenant with this slug or id.
///
/// # Errors
///
/// When there is none.
pub(crate) async fn tenant_id(ops: &Ops, named: &str) -> Result<TenantId, Failure> {
    if let Ok(id) = named.parse() {
        return Ok(id);
    }
    Ok(ops.get_tenant(&authority(), &TenantRef::parse(named)).await?.id)
}
