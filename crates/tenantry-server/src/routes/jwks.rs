//! The keys that verify access tokens.

use axum::{Json, extract::State};
use serde_json::Value;
use tenantry::axum::Problem;

use crate::{Services, refusal};

/// Read the public keys of the access tokens (RFC 7517).
#[utoipa::path(get, path = "/.well-known/jwks.json", tag = "auth", responses((status = 200, body = Object)))]
pub(crate) async fn get_jwks(State(services): State<Services>) -> Result<Json<Value>, Problem> {
    services
        .ops
        .jwks()
        .await
        .map(Json)
        .map_err(|error| refusal::of_catalog(&error))
}
