//! Many moves at once: everybody off a server, or the servers about equally used.

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use tenantry::axum::{Body, Fields, FromFields, Path, Problem};
use tenantry_ops::{Authority, BalanceError, FleetPlan, MoveOutcome};
use utoipa::ToSchema;

use crate::{Services, caller::Caller, refusal};

/// Where the tenants of a server may go.
#[derive(ToSchema)]
#[schema(as = Drain)]
#[expect(dead_code, reason = "describes what `DrainBody` reads")]
pub(crate) struct DrainSchema {
    /// Servers by name; every other one of the region where it is left out.
    to: Option<Vec<String>>,
    /// Answers who would go where, and changes nothing.
    dry_run: Option<bool>,
}

/// What is read of [`DrainSchema`].
pub(crate) struct DrainBody {
    to: Vec<String>,
    dry_run: bool,
}

impl FromFields for DrainBody {
    fn from_fields(fields: &mut Fields) -> Option<Self> {
        Some(Self {
            to: fields.optional("to").unwrap_or_default(),
            dry_run: fields.optional("dry_run").unwrap_or_default(),
        })
    }
}

/// How to balance.
#[derive(ToSchema)]
#[schema(as = Rebalance)]
#[expect(dead_code, reason = "describes what `RebalanceBody` reads")]
pub(crate) struct RebalanceSchema {
    /// Answers who would go where, and changes nothing.
    dry_run: Option<bool>,
}

/// What is read of [`RebalanceSchema`].
pub(crate) struct RebalanceBody {
    dry_run: bool,
}

impl FromFields for RebalanceBody {
    fn from_fields(fields: &mut Fields) -> Option<Self> {
        Some(Self {
            dry_run: fields.optional("dry_run").unwrap_or_default(),
        })
    }
}

/// Who goes where.
#[derive(Serialize, ToSchema)]
#[schema(as = FleetMoves)]
pub(crate) struct FleetMovesBody {
    moves: Vec<FleetMoveBody>,
    /// Tenants that should go and can't.
    stays: Vec<StayBody>,
    servers: Vec<WeightBody>,
}

/// One tenant's move.
#[derive(Serialize, ToSchema)]
#[schema(as = FleetMove)]
struct FleetMoveBody {
    tenant: String,
    slug: String,
    /// How its rows are kept apart, before and after.
    isolation: &'static str,
    from: String,
    to: String,
    /// Estimated.
    bytes: i64,
    /// In the last seven days.
    calls: i64,
    /// The operation that moves it; `null` in a dry run, and where it is refused.
    operation: Option<String>,
    /// Why it is not moved.
    refused: Option<String>,
}

/// A tenant that should go and can't.
#[derive(Serialize, ToSchema)]
#[schema(as = FleetStay)]
struct StayBody {
    tenant: String,
    slug: String,
    server: String,
    /// Why, with what to do.
    why: String,
}

/// How much a server is used.
#[derive(Serialize, ToSchema)]
#[schema(as = ServerWeight)]
struct WeightBody {
    server: String,
    region: String,
    tenants: i32,
    tenants_after: i32,
    bytes: i64,
    bytes_after: i64,
    /// In the last seven days.
    calls: i64,
    calls_after: i64,
}

impl FleetMovesBody {
    fn of(plan: FleetPlan, begun: Vec<MoveOutcome>) -> Self {
        let mut begun = begun.into_iter();
        let moves = plan.moves.into_iter().map(|one| {
            // In the order of the plan; none in a dry run.
            let outcome = begun.next();
            FleetMoveBody {
                tenant: one.tenant.to_string(),
                slug: one.slug,
                isolation: one.isolation.as_str(),
                from: one.from,
                to: one.to,
                bytes: one.bytes,
                calls: one.calls,
                operation: outcome
                    .as_ref()
                    .and_then(|outcome| outcome.operation)
                    .map(|operation| operation.to_string()),
                refused: outcome.and_then(|outcome| outcome.refused),
            }
        });
        let stays = plan.stays.into_iter().map(|one| StayBody {
            tenant: one.tenant.to_string(),
            slug: one.slug,
            server: one.server,
            why: one.why,
        });
        let servers = plan.servers.into_iter().map(|one| WeightBody {
            server: one.server,
            region: one.region,
            tenants: one.tenants.0,
            tenants_after: one.tenants.1,
            bytes: one.bytes.0,
            bytes_after: one.bytes.1,
            calls: one.calls.0,
            calls_after: one.calls.1,
        });
        Self {
            moves: moves.collect(),
            stays: stays.collect(),
            servers: servers.collect(),
        }
    }
}

/// Begin to move every tenant off a server, and let no new one come. Each move is an operation of its own; the same request again begins those
/// that are still to be begun. `dry_run` answers who would go where.
#[utoipa::path(post, path = "/v1/servers/{name}/drain", tag = "servers", request_body = DrainSchema,
    params(("name" = String, Path, description = "The server's name")),
    responses((status = 202, body = FleetMovesBody), (status = 200, body = FleetMovesBody), (status = 404), (status = 409), (status = 422)))]
pub(crate) async fn drain_server(
    State(services): State<Services>,
    Caller(authority): Caller,
    Path(name): Path<String>,
    Body(DrainBody { to, dry_run }): Body<DrainBody>,
) -> Result<Response, Problem> {
    let refused = |error: BalanceError| refusal::of_drain(&error, &name);
    let plan = services.ops.plan_drain(&authority, &name, &to).await.map_err(refused)?;
    if dry_run {
        return Ok(Json(FleetMovesBody::of(plan, Vec::new())).into_response());
    }
    services
        .ops
        .set_draining(&authority, &name, true)
        .await
        .map_err(refused)?;
    begin(&services, &authority, plan).await
}

/// Begin to move as few tenants as it takes for the servers of each region to be about equally used. Each move is an operation of its own.
/// `dry_run` answers who would go where.
#[utoipa::path(post, path = "/v1/servers/rebalance", tag = "servers", request_body = RebalanceSchema,
    responses((status = 202, body = FleetMovesBody), (status = 200, body = FleetMovesBody), (status = 409)))]
pub(crate) async fn rebalance_servers(
    State(services): State<Services>,
    Caller(authority): Caller,
    Body(RebalanceBody { dry_run }): Body<RebalanceBody>,
) -> Result<Response, Problem> {
    let plan = services.ops.plan_rebalance(&authority).await;
    let plan = plan.map_err(|error| refusal::of_drain(&error, ""))?;
    if dry_run {
        return Ok(Json(FleetMovesBody::of(plan, Vec::new())).into_response());
    }
    begin(&services, &authority, plan).await
}

async fn begin(services: &Services, authority: &Authority, plan: FleetPlan) -> Result<Response, Problem> {
    let begun = services.ops.begin_moves(authority, &plan).await;
    let begun = begun.map_err(|error| refusal::of_drain(&error.into(), ""))?;
    Ok((StatusCode::ACCEPTED, Json(FleetMovesBody::of(plan, begun))).into_response())
}
