//! Whether the process lives, whether it can serve, and which tenant databases can be reached.

use axum::{Extension, Json, extract::State};
use serde::Serialize;
use tenantry::axum::{Code, Problem};
use tenantry_ops::{Found, Reach};
use utoipa::ToSchema;

use crate::{Services, caller::Caller, life::Life, refusal};

/// That it is so.
#[derive(Serialize, ToSchema)]
pub(crate) struct Health {
    /// `ok`; anything else is a problem.
    status: &'static str,
}

/// Whether the homes of all tenants can be reached, and each tenant database.
#[derive(Serialize, ToSchema)]
pub(crate) struct TenantHealth {
    /// `ok`, or `degraded` where a home can't be reached, is not there, or was not looked at in time.
    status: &'static str,
    databases: usize,
    databases_reachable: usize,
    /// Of those there was no time to look at: the answer takes five seconds at most.
    databases_not_looked_at: usize,
    /// Served tenants.
    tenants: usize,
    /// Those of them whose database was reached. Those whose schema is missing there are counted too; the items name the schema.
    tenants_reachable: usize,
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
    /// How many served tenants live there.
    tenants: usize,
    /// Null where there was no time to look.
    reachable: Option<bool>,
    /// How long it took to connect.
    connected_in_ms: Option<f64>,
    /// Schemas of served tenants that are not there.
    missing_schemas: Vec<String>,
}

impl From<Reach> for DatabaseHealth {
    fn from(reach: Reach) -> Self {
        let (reachable, connected_in, missing_schemas) = match reach.found {
            Found::Reachable { connected_in, missing } => (Some(true), Some(connected_in), missing),
            Found::NotLooked => (None, None, Vec::new()),
            _ => (Some(false), None, Vec::new()),
        };
        Self {
            server: reach.server,
            region: reach.region,
            database: reach.database,
            kind: reach.kind.to_string(),
            tenants: reach.tenants,
            reachable,
            connected_in_ms: connected_in.map(|time| time.as_secs_f64() * 1000.0),
            missing_schemas,
        }
    }
}

impl From<Vec<Reach>> for TenantHealth {
    fn from(found: Vec<Reach>) -> Self {
        let items: Vec<DatabaseHealth> = found.into_iter().map(Into::into).collect();
        let well = |item: &&DatabaseHealth| item.reachable == Some(true);
        let whole = |item: &DatabaseHealth| well(&item) && item.missing_schemas.is_empty();
        Self {
            status: if items.iter().all(whole) { "ok" } else { "degraded" },
            databases: items.len(),
            databases_reachable: items.iter().filter(well).count(),
            databases_not_looked_at: items.iter().filter(|item| item.reachable.is_none()).count(),
            tenants: items.iter().map(|item| item.tenants).sum(),
            tenants_reachable: items.iter().filter(well).map(|item| item.tenants).sum(),
            items,
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
pub(crate) async fn get_readiness(
    State(services): State<Services>,
    Extension(life): Extension<Life>,
) -> Result<Json<Health>, Problem> {
    if life.is_draining() {
        return Err(Problem::new(Code::Unavailable, "The server stops.").retry_after(RETRY_AFTER));
    }
    if !services.tenantry.resolver()?.is_current() {
        return Err(Problem::new(Code::Unavailable, "The catalog's changes are not known.").retry_after(RETRY_AFTER));
    }
    // The smallest question that goes all the way to the catalog.
    services.ops.jwks().await.map_err(|error| refusal::of_catalog(&error))?;
    Ok(Json(Health { status: "ok" }))
}

const RETRY_AFTER: std::time::Duration = std::time::Duration::from_secs(1);

/// Tell whether the homes of all tenants can be reached: each tenant database is tried, within five seconds.
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
    Ok(Json(found.into()))
}
