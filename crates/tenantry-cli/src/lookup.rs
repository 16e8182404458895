//! What a command names by slug, name or id.

use tenantry_core::{IdError, TenantId};
use tenantry_ops::{Ops, TenantRef};

use uuid::Uuid;

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

/// An id that has no type of its own, with what it should look like.
pub(crate) fn parse_id(text: &str) -> Result<Uuid, IdError> {
    text.parse().map_err(|_| IdError)
}
