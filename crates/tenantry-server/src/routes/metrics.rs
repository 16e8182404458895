//! Metrics for Prometheus.

use axum::{extract::State, http::header, response::IntoResponse};

use crate::Services;

/// Read the process's metrics.
#[utoipa::path(get, path = "/metrics", tag = "health", responses((status = 200, content_type = "text/plain", body = String)))]
pub(crate) async fn get_metrics(State(services): State<Services>) -> impl IntoResponse {
    crate::metrics::note_pools(&services.tenantry.pool_status());
    (
        [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        crate::metrics::render(),
    )
}
