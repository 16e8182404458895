//! The tenant that a path names, by its id or its slug.

use tenantry::axum::Problem;
use tenantry_core::{Slug, TenantId};
use tenantry_ops::{Authority, TenantRef};

use crate::{Services, refusal};

/// An id or a slug; what can be neither names nothing.
pub(super) fn named(text: &str) -> Result<TenantRef, Problem> {
    match TenantRef::parse(text) {
        TenantRef::Slug(slug) if slug.parse::<Slug>().is_err() => Err(Problem::not_found()),
        named => Ok(named),
    }
}

/// The id of the tenant whose members or keys are asked for.
pub(super) async fn tenant_id(services: &Services, authority: &Authority, text: &str) -> Result<TenantId, Problem> {
    let found = services.ops.find_tenant_id(authority, &named(text)?).await;
    let tenant = found.map_err(refusal::of_member)?;
    // An operator's request is about a tenant too: the handler's lines say about which.
    tracing::Span::current().record("tenant.id", tracing::field::display(tenant));
    Ok(tenant)
}
