//! Durable pieces of work, and how far they are.

use axum::{Json, extract::State};
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use tenantry::axum::{Path, Problem};
use tenantry_core::OperationId;
use tenantry_ops::Operation;
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
    /// `pending`, `running` or `undoing`; at last `done`, `failed` or `cancelled`.
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
