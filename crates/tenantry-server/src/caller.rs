//! Who asks: from the header `Authorization` to the authority that the use cases want.

use axum::{extract::FromRequestParts, http::request::Parts};
use tenantry::axum::{Code, Problem};
use tenantry_core::TenantId;
use tenantry_ops::{AccountSession, Authority};

use crate::Services;

/// Whoever shows a valid credential: an operator, a member or an API key of a tenant.
pub(crate) struct Caller(pub(crate) Authority);

/// A person with an access token, whether or not it names a tenant.
pub(crate) struct Person {
    pub(crate) session: AccountSession,
    pub(crate) tenant: Option<TenantId>,
}

impl FromRequestParts<Services> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(_parts: &mut Parts, _services: &Services) -> Result<Self, Problem> {
        Err(Problem::new(Code::Unauthenticated, "Send a credential."))
    }
}

impl FromRequestParts<Services> for Person {
    type Rejection = Problem;

    async fn from_request_parts(_parts: &mut Parts, _services: &Services) -> Result<Self, Problem> {
        Err(Problem::new(Code::Unauthenticated, "Send a credential."))
    }
}
