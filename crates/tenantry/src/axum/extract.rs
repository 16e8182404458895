//! A handler's scope.

use axum::{extract::FromRequestParts, http::request::Parts};

use super::{Code, Problem};
use crate::{Scope, Verified};

/// The scope that the layer made for this request.
///
/// Without the layer around the route there is none, and the request is refused.
impl<S: Send + Sync> FromRequestParts<S> for Scope {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        scope(parts).cloned()
    }
}

/// The context that the layer verified for this request.
impl<S: Send + Sync> FromRequestParts<S> for Verified {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        Ok(scope(parts)?.verified().clone())
    }
}

fn scope(parts: &Parts) -> Result<&Scope, Problem> {
    parts.extensions.get().ok_or_else(|| {
        tracing::error!("a handler wants a scope, but its route has no tenantry::axum::TenantLayer around it");
        Problem::new(Code::Internal, "The request could not be served.")
    })
}
