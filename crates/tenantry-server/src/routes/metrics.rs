//! Metrics for Prometheus.

use axum::{
    Extension,
    extract::{FromRequestParts, State},
    http::{header, request::Parts},
    response::IntoResponse,
};
use tenantry::{axum::Problem, jobs::JobDurations};
use tenantry_core::OperatorScope;

use crate::{Services, caller::Caller, life::Life};

/// Whether an operator asks, who may see which tenants there are. Nobody has to show anything; but who shows something wrong is
/// told so.
pub(crate) struct ByOperator(bool);

impl FromRequestParts<Services> for ByOperator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, services: &Services) -> Result<Self, Problem> {
        if !parts.headers.contains_key(header::AUTHORIZATION) {
            return Ok(Self(false));
        }
        let Caller(authority) = Caller::from_request_parts(parts, services).await?;
        Ok(Self(authority.require_operator(OperatorScope::Read).is_ok()))
    }
}

/// Read the process's metrics; with an operator key, those of the busiest tenants too.
#[utoipa::path(get, path = "/metrics", tag = "health", responses((status = 200, content_type = "text/plain", body = String)))]
pub(crate) async fn get_metrics(
    State(services): State<Services>,
    Extension(life): Extension<Life>,
    ByOperator(by_operator): ByOperator,
) -> impl IntoResponse {
    crate::metrics::note(&services.tenantry, life.is_draining());
    life.fleet().note(&services.ops).await;
    let tenantry = &services.tenantry;
    let mut text = crate::metrics::render();
    text += &crate::metrics::jobs(&JobDurations::now());
    text += &crate::metrics::servers(&tenantry.server_status(), &tenantry.replica_status());
    if by_operator {
        text += &crate::metrics::busiest(&tenantry.recent_use());
    }
    (
        [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        text,
    )
}
