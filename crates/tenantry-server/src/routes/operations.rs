//! Durable pieces of work, and how far they are.

use axum::{Json, extract::State, http::StatusCode};
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use tenantry::axum::{Path, Problem};
use tenantry_core::OperationId;
use tenantry_ops::{Operation, Steer};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{Services, caller::Caller, refusal};

/// A durable piece of work.
#[derive(Serialize, ToSchema)]
#[schema(as = Operation)]
pub(crate) struct OperationBody {
    id: Uuid,
    /// What it does, for example `provision`.
    kind: String,
    tenant_id: Option<Uuid>,
    /// `pending`, `running`, `undoing` or `paused`; at last `done`, `failed` or `cancelled`.
    state: String,
    /// The step that was begun last.
    step: String,
    /// How far within the step.
    #[schema(value_type = Object)]
    progress: Value,
    error: Option<OperationFault>,
    attempts: i32,
    /// It does not go on before.
    run_after: DateTime<Utc>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    finished_at: Option<DateTime<Utc>>,
    /// What an operator wants of it and was not done yet: `pause`, `abort`, `rollback` or `finish`.
    wish: Option<String>,
}

/// Why an operation failed, or was not able to go on when it was tried last.
#[derive(Serialize, ToSchema)]
pub(crate) struct OperationFault {
    /// For programs.
    code: String,
    /// For operators.
    message: String,
}

impl From<Operation> for OperationBody {
    fn from(operation: Operation) -> Self {
        let fault = |message| OperationFault {
            code: operation.error_code.unwrap_or_default(),
            message,
        };
        Self {
            id: *operation.id.as_uuid(),
            kind: operation.kind.to_string(),
            tenant_id: operation.tenant.map(|tenant| *tenant.as_uuid()),
            state: operation.state.to_string(),
            step: operation.step,
            progress: operation.progress,
            error: operation.error.map(fault),
            attempts: operation.attempts,
            run_after: operation.run_after,
            created_at: operation.created_at,
            updated_at: operation.updated_at,
            finished_at: operation.finished_at,
            wish: operation.wish.map(|wish| wish.to_string()),
        }
    }
}

/// Read how far an operation is.
#[utoipa::path(get, path = "/v1/operations/{id}", tag = "operations", params(("id" = Uuid, Path)),
    responses((status = 200, body = OperationBody)))]
pub(crate) async fn get_operation(
    State(services): State<Services>,
    Caller(authority): Caller,
    Path(id): Path<OperationId>,
) -> Result<Json<OperationBody>, Problem> {
    let operation = services
        .ops
        .get_operation(&authority, id)
        .await
        .map_err(refusal::of_operation)?;
    Ok(Json(operation.into()))
}

/// A certificate, and the line with its signature.
#[derive(Serialize, ToSchema)]
#[schema(as = MoveCertificate)]
pub(crate) struct MoveCertificateBody {
    /// Both homes, every table with its count and checksum, positions in the log, and how long the tenant waited.
    #[schema(value_type = Object)]
    certificate: Value,
    /// The same, signed as RFC 7515 says; the key is among those of `/.well-known/jwks.json`.
    jws: String,
}

/// Read the certificate of a move: what was compared on both sides before its tenant was let into its new home. Of a move that was taken
/// back, that of the way back.
#[utoipa::path(get, path = "/v1/operations/{id}/certificate", tag = "operations", params(("id" = Uuid, Path)),
    responses((status = 200, body = MoveCertificateBody), (status = 409)))]
pub(crate) async fn get_certificate(
    State(services): State<Services>,
    Caller(authority): Caller,
    Path(id): Path<OperationId>,
) -> Result<Json<MoveCertificateBody>, Problem> {
    let found = services.ops.find_move_certificate(&authority, id).await;
    let found = found.map_err(refusal::of_operation)?;
    Ok(Json(MoveCertificateBody {
        certificate: found.certificate,
        jws: found.jws,
    }))
}

/// What is answered to whoever steers a move, a roll-out or a restore: the operation, which does it in its time.
type Steered = Result<(StatusCode, Json<OperationBody>), Problem>;

async fn steer(services: &Services, caller: Caller, id: OperationId, steer: Steer) -> Steered {
    let steered = services.ops.steer_operation(&caller.0, id, steer).await;
    let operation = steered.map_err(refusal::of_steer)?;
    Ok((StatusCode::ACCEPTED, Json(operation.into())))
}

/// Pause a move, or a roll-out of migrations. The tenant is served where it was; what was copied stays, and where its changes are followed,
/// the old home's server keeps its log for them until the move is resumed or called off. Of a roll-out, the schemas at work end, and no other
/// one begins.
#[utoipa::path(post, path = "/v1/operations/{id}/pause", tag = "operations", params(("id" = Uuid, Path)),
    responses((status = 202, body = OperationBody), (status = 409)))]
pub(crate) async fn pause_operation(
    State(services): State<Services>,
    caller: Caller,
    Path(id): Path<OperationId>,
) -> Steered {
    steer(&services, caller, id, Steer::Pause).await
}

/// Let a paused move or roll-out go on.
#[utoipa::path(post, path = "/v1/operations/{id}/resume", tag = "operations", params(("id" = Uuid, Path)),
    responses((status = 202, body = OperationBody), (status = 409)))]
pub(crate) async fn resume_operation(
    State(services): State<Services>,
    caller: Caller,
    Path(id): Path<OperationId>,
) -> Steered {
    steer(&services, caller, id, Steer::Resume).await
}

/// Call a move off: what it made is removed, and the tenant is served where it was. A roll-out ends with the schemas at work; schemas keep
/// what they have, and `progress` tells what is left. Of a restore in a tenant's place, until the rows are the backup's: the tenant is served
/// with those that it had.
#[utoipa::path(post, path = "/v1/operations/{id}/abort", tag = "operations", params(("id" = Uuid, Path)),
    responses((status = 202, body = OperationBody), (status = 409)))]
pub(crate) async fn abort_operation(
    State(services): State<Services>,
    caller: Caller,
    Path(id): Path<OperationId>,
) -> Steered {
    steer(&services, caller, id, Steer::Abort).await
}

/// Take a tenant that has moved back to its old home, with all that it has written since. While the move soaks.
#[utoipa::path(post, path = "/v1/operations/{id}/rollback", tag = "operations", params(("id" = Uuid, Path)),
    responses((status = 202, body = OperationBody), (status = 409)))]
pub(crate) async fn roll_operation_back(
    State(services): State<Services>,
    caller: Caller,
    Path(id): Path<OperationId>,
) -> Steered {
    steer(&services, caller, id, Steer::Rollback).await
}

/// End a move's soak now: the old home is removed.
#[utoipa::path(post, path = "/v1/operations/{id}/finish", tag = "operations", params(("id" = Uuid, Path)),
    responses((status = 202, body = OperationBody), (status = 409)))]
pub(crate) async fn finish_operation(
    State(services): State<Services>,
    caller: Caller,
    Path(id): Path<OperationId>,
) -> Steered {
    steer(&services, caller, id, Steer::Finish).await
}
