//! Whether the process lives, whether it can serve, and which tenant databases can be reached.

use axum::{Extension, Json, extract::State};
use serde::Serialize;
use tenantry::{
    ReplicaStatus,
    axum::{Code, Problem},
};
use tenantry_ops::{Found, Reach, ReplicaReach};
use utoipa::ToSchema;
use uuid::Uuid;

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
    /// Replicas that the application may read from. They say nothing of `status`: where one is away, reads go to its primary.
    replicas: Vec<ReplicaHealth>,
}

/// A replica, as it answers now, and as this process reads from it.
#[derive(Serialize, ToSchema)]
pub(crate) struct ReplicaHealth {
    /// As in the label of `tenantry_replica_lag_seconds`.
    id: Uuid,
    /// Its server's name.
    server: String,
    region: String,
    /// As `host:port`.
    address: String,
    /// Null where there was no time to look. One that is not holds up moves from its server.
    reachable: Option<bool>,
    /// How many bytes of its server's log it does not show yet.
    behind_bytes: Option<u64>,
    /// How old what it shows is at most. Null where it gives no answer, and while nobody reads by this process, which finds out only then.
    lag_ms: Option<f64>,
    /// Whether this process's reads that say nothing of their age go there now. Null while nobody reads and it is well.
    read_from: Option<bool>,
}

impl ReplicaHealth {
    fn new(replica: ReplicaReach, known: &[ReplicaStatus]) -> Self {
        let known = known.iter().find(|known| known.id == replica.id);
        let check = replica.found.as_ref();
        let is_wrong = check.is_some_and(|check| check.problem.is_some());
        Self {
            id: *replica.id.as_uuid(),
            server: replica.server,
            region: replica.region,
            reachable: check.map(|check| check.reachable),
            behind_bytes: check.and_then(|check| check.behind_bytes),
            lag_ms: known.and_then(|known| known.lag).map(|lag| lag.as_secs_f64() * 1000.0),
            read_from: match is_wrong {
                true => Some(false),
                false => known.and_then(|known| known.read_from),
            },
            address: replica.address,
        }
    }
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

impl TenantHealth {
    fn new(found: Vec<Reach>, replicas: Vec<ReplicaReach>, known: &[ReplicaStatus]) -> Self {
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
            replicas: replicas
                .into_iter()
                .map(|replica| ReplicaHealth::new(replica, known))
                .collect(),
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

/// Tell whether the homes of all tenants can be reached: each tenant database is tried, and each replica, within five seconds.
#[utoipa::path(get, path = "/health/tenants", tag = "health", responses((status = 200, body = TenantHealth)))]
pub(crate) async fn get_tenant_health(
    State(services): State<Services>,
    Caller(authority): Caller,
) -> Result<Json<TenantHealth>, Problem> {
    let (found, replicas) = tokio::try_join!(
        services.ops.check_reach(&authority),
        services.ops.check_replicas(&authority)
    )
    .map_err(refusal::of_operation)?;
    let known = services.tenantry.replica_status();
    Ok(Json(TenantHealth::new(found, replicas, &known)))
}
