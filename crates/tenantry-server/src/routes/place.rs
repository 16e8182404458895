//! A membership, as its person sees it.

use serde::Serialize;
use tenantry_ops::Place;
use utoipa::ToSchema;
use uuid::Uuid;

/// A tenant, and the person's place in it.
#[derive(Serialize, ToSchema)]
#[schema(as = Membership)]
pub(crate) struct PlaceBody {
    /// The tenant's id.
    id: Uuid,
    slug: String,
    name: String,
    /// `active`, or why the tenant is not served.
    state: &'static str,
    /// `owner`, `admin`, `member` or `viewer`.
    role: &'static str,
    /// `active`, or `invited` until the person accepts.
    status: &'static str,
}

impl From<Place> for PlaceBody {
    fn from(place: Place) -> Self {
        Self {
            id: *place.tenant.as_uuid(),
            slug: place.slug,
            name: place.name,
            state: place.state.as_str(),
            role: place.role.as_str(),
            status: place.status.as_str(),
        }
    }
}
