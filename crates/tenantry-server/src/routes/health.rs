//! Whether the process lives, whether it can serve, and which tenant databases can be reached.

use axum::{Json, extract::State};
use serde::Serialize;
use tenantry::axum::{Code, Problem};
use tenantry_ops::Reach;
use utoipa::ToSchema;

use crate::{Services, caller::Caller, refusal};

/// That it is so.
#[derive(Serialize, ToSchema)]
pub(crate) struct Health {
    /// `ok`; anything else is a problem.
    status: &'static str,
}

/// Every tenant database, and whether it can be reached.
#[derive(Serialize, ToSchema)]
pub(crate) struct TenantHealth {
    items: Vec<DatabaseHealth>,
}

/// A tenant database, and whether it can be reached.
#[derive(Serialize, ToSchema)]
pub(crate) struct DatabaseHealth {
    /// The server's name.
    server: String,
    region: String,
    database: String,
    /// `shared` between tenants, or one tenant's `own`.
    kind: String,
    reachable: bool,
    /// How long it took to connect.
    connected_in_ms: Option<f64>,
}

impl From<Reach> for DatabaseHealth {
    fn from(reach: Reach) -> Self {
        Self {
            server: reach.server,
            region: reach.region,
            database: reach.database,
            kind: reach.kind.to_string(),
            reachable: reach.connected_in.is_some(),
            connected_in_ms: reach.connected_in.map(|time| time.as_secs_f64() * 1000.0),
        }
    }
}

/// Tell whether the process lives.
#[utoipa::path(get, path = "/health/live", tag = "health", responses((status = 200, body = Health)))]
pub(crate) async fn get_liveness() -> Json<Health> {
    Json(Health { status: "ok" })
}

/// Tell whether requests can be served: the catalog answers, and its changes are known.
#[utoipa::path(get, path = "/health/ready", tag = "health", responses((status = 200, body = Health), (status = 503)))]
pub(crate) async fn get_readiness(State(services): State<Services>) -> Result<Json<Health>, Problem> {
    if !services.tenantry.resolver()?.is_current() {
        return Err(Problem::new(Code::Unavailable, "The catalog's changes are not known.").retry_after(RETRY_AFTER));
    }
    // The smallest question that goes all the way to the catalog.
    services.ops.jwks().await.map_err(|error| refusal::of_catalog(&error))?;
    Ok(Json(Health { status: "ok" }))
}

const RETRY_AFTER: std::time::Duration = std::time::Duration::from_secs(1);

/// Tell which tenant databases can be reached.
#[utoipa::path(get, path = "/health/tenants", tag = "health", responses((status = 200, body = TenantHealth)))]
pub(crate) async fn get_tenant_health(
    State(services): State<Services>,
    Caller(authority): Caller,
) -> Result<Json<TenantHealth>, Problem> {
    let found = services
        .ops
        .check_reach(&authority)
        .await
        .map_err(refusal::of_operation)?;
    Ok(Json(TenantHealth {
        items: found.into_iter().map(Into::into).collect(),
    }))
}
