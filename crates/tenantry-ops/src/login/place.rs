//! A person's tenants.

use tenantry_catalog::membership::Place;
use tenantry_core::{MembershipStatus, TenantId, TenantState};

use super::LoginError;

/// The membership in the tenant with this slug or id.
pub(super) fn find<'a>(memberships: &'a [Place], tenant: &str) -> Option<&'a Place> {
    let id = tenant.parse::<TenantId>().ok();
    memberships
        .iter()
        .find(|place| place.slug == tenant || Some(place.tenant) == id)
}

pub(super) fn active(memberships: &[Place], tenant: TenantId) -> Option<Place> {
    memberships
        .iter()
        .find(|place| place.tenant == tenant && place.status == MembershipStatus::Active)
        .cloned()
}

/// The tenant that a log-in names: a member's own, and one that is served.
pub(super) fn choose(memberships: &[Place], tenant: &str) -> Result<Place, LoginError> {
    let place = find(memberships, tenant)
        .filter(|place| place.status == MembershipStatus::Active)
        .ok_or(LoginError::NotAMember)?;
    match place.state {
        TenantState::Active => Ok(place.clone()),
        TenantState::Suspended => Err(LoginError::TenantSuspended),
        TenantState::Provisioning => Err(LoginError::TenantNotReady),
        TenantState::Deleted | TenantState::Purged => Err(LoginError::NotAMember),
    }
}

/// The one tenant of a person who has only one. Suspended or not: a request then says why it is refused.
pub(super) fn only(memberships: &[Place]) -> Option<Place> {
    let mut active = memberships
        .iter()
        .filter(|place| place.status == MembershipStatus::Active);
    match (active.next(), active.next()) {
        (Some(place), None) => Some(place.clone()),
        _ => None,
    }
}
