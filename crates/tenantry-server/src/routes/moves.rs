//! Moves of a tenant to another home.

use std::time::Duration;

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use tenantry::axum::{Body, Fields, FromFields, Path, Problem};
use tenantry_core::Isolation;
use tenantry_ops::{MoveHome, MovePlan, MoveRequest, Obstacle};
use utoipa::ToSchema;

use super::{idempotency::IdempotencyKey, named::named, operations::OperationBody, words};
use crate::{Services, caller::Caller, refusal};

/// Where a tenant shall live.
#[derive(ToSchema)]
#[schema(as = NewMove)]
#[expect(dead_code, reason = "describes what `MoveBody` reads")]
pub(crate) struct MoveSchema {
    /// `shared`, `schema` or `database`.
    #[schema(schema_with = words::isolation)]
    to: String,
    /// A server's name; the tenant's own where it is left out.
    server: Option<String>,
    /// Ends transactions that don't end in time, instead of trying later.
    force: Option<bool>,
    /// Moves it also where its calls wait while many rows are compared, since its changes can't be followed.
    wait: Option<bool>,
    /// For how many seconds the old home is kept in step with the new one, so that the tenant can be taken back; 30 days at most.
    /// Without, it is removed at once.
    soak_s: Option<u64>,
    /// Answers what the move would take and what is in its way, and changes nothing.
    dry_run: Option<bool>,
}

/// What is read of [`MoveSchema`].
pub(crate) struct MoveBody {
    request: MoveRequest,
    dry_run: bool,
}

impl FromFields for MoveBody {
    fn from_fields(fields: &mut Fields) -> Option<Self> {
        let to = fields.required::<Isolation>("to");
        let server = fields.text("server");
        let force = fields.optional::<bool>("force").unwrap_or_default();
        let wait = fields.optional::<bool>("wait").unwrap_or_default();
        let soak = fields.optional::<u64>("soak_s").map(Duration::from_secs);
        let dry_run = fields.optional::<bool>("dry_run").unwrap_or_default();
        Some(Self {
            request: MoveRequest {
                to: to?,
                server,
                force,
                wait,
                soak,
            },
            dry_run,
        })
    }
}

/// What a move would take.
#[derive(Serialize, ToSchema)]
#[schema(as = MovePlan)]
pub(crate) struct PlanBody {
    from: HomeBody,
    to: HomeBody,
    /// Estimated.
    rows: i64,
    /// Estimated.
    bytes: i64,
    /// Whether the statistics say something of every table.
    complete: bool,
    /// What is in the way; empty, where the tenant can be moved.
    obstacles: Vec<ObstacleBody>,
    /// Why the tenant would wait while all of its rows are compared; `null` where it would work meanwhile.
    held_because: Option<String>,
    /// What is in nobody's way and somebody should know: what it takes of disks, and text that is ordered otherwise.
    notes: Vec<String>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = MoveHome)]
pub(crate) struct HomeBody {
    /// `shared`, `schema` or `database`.
    isolation: &'static str,
    /// The server's name.
    server: String,
    schema: String,
}

/// Something in the way of a move.
#[derive(Serialize, ToSchema)]
#[schema(as = Obstacle)]
pub(crate) struct ObstacleBody {
    /// For programs.
    code: &'static str,
    /// What it is.
    what: String,
    /// What to do about it.
    mend: String,
}

impl From<MoveHome> for HomeBody {
    fn from(home: MoveHome) -> Self {
        Self {
            isolation: home.isolation.as_str(),
            server: home.server,
            schema: home.schema,
        }
    }
}

impl From<Obstacle> for ObstacleBody {
    fn from(obstacle: Obstacle) -> Self {
        Self {
            code: obstacle.code,
            what: obstacle.what,
            mend: obstacle.mend,
        }
    }
}

impl From<MovePlan> for PlanBody {
    fn from(plan: MovePlan) -> Self {
        Self {
            from: plan.from.into(),
            to: plan.to.into(),
            rows: plan.rows,
            bytes: plan.bytes,
            complete: plan.complete,
            obstacles: plan.obstacles.into_iter().map(Into::into).collect(),
            held_because: plan.held_because,
            notes: plan.notes,
        }
    }
}

/// Move a tenant to another isolation or server. Answers with the operation that does it; `dry_run` answers what it would take.
#[utoipa::path(post, path = "/v1/tenants/{id}/moves", tag = "tenants", request_body = MoveSchema,
    params(("id" = String, Path, description = "Id or slug"),
        ("Idempotency-Key" = Option<String>, Header, description = "The same key is the same request.")),
    responses((status = 202, body = OperationBody), (status = 200, body = PlanBody), (status = 409), (status = 422)))]
pub(crate) async fn move_tenant(
    State(services): State<Services>,
    Caller(authority): Caller,
    Path(tenant): Path<String>,
    key: IdempotencyKey,
    Body(MoveBody { request, dry_run }): Body<MoveBody>,
) -> Result<Response, Problem> {
    let tenant = named(&tenant)?;
    if dry_run {
        let plan = services.ops.plan_move(&authority, &tenant, &request).await;
        let plan = plan.map_err(refusal::of_move)?;
        return Ok(Json(PlanBody::from(plan)).into_response());
    }
    let operation = services
        .ops
        .move_tenant(&authority, &tenant, &request, key.as_deref())
        .await
        .map_err(refusal::of_move)?;
    Ok((StatusCode::ACCEPTED, Json(OperationBody::from(operation))).into_response())
}
