//! Roll-outs of the application's migrations over the fleet.

use axum::{Json, extract::State, http::StatusCode};
use tenantry::axum::{Body, Fields, FromFields, Problem};
use tenantry_ops::RolloutRequest;
use utoipa::ToSchema;

use super::operations::OperationBody;
use crate::{Services, caller::Caller, refusal};

/// A roll-out; what is left out is not wanted.
#[derive(ToSchema)]
#[schema(as = NewRollout)]
#[expect(dead_code, reason = "describes what `NewRolloutBody` reads")]
pub(crate) struct NewRolloutSchema {
    /// Only these tenants, by slug, which have a schema or a database of their own; everything where it is left out.
    tenants: Option<Vec<String>>,
    /// Only schemas whose last attempt failed.
    only_failed: Option<bool>,
    /// Tenants that go first, by slug.
    canaries: Option<Vec<String>>,
    /// A wave for each label, `name=value`: `plan`, `server`, or one of the `labels` in a tenant's settings.
    wave_of: Option<Vec<String>>,
    /// Up to how many percent of the tenants with a schema or database of their own each wave reaches, growing.
    waves: Option<Vec<u8>>,
    /// How many seconds to wait between waves.
    #[schema(maximum = 86400)]
    pause_seconds: Option<u32>,
    /// Stop when more fail: a number, or a share like `1%`.
    max_failures: Option<String>,
}

/// What is read of [`NewRolloutSchema`].
pub(crate) struct NewRolloutBody(RolloutRequest);

/// The lease of an operation does not outlive a day.
const PAUSE_SECONDS_MAX: u32 = 86_400;

impl FromFields for NewRolloutBody {
    fn from_fields(fields: &mut Fields) -> Option<Self> {
        let request = RolloutRequest {
            tenants: fields.optional("tenants").unwrap_or_default(),
            only_failed: fields.optional("only_failed").unwrap_or_default(),
            canaries: fields.optional("canaries").unwrap_or_default(),
            wave_of: fields.optional("wave_of").unwrap_or_default(),
            waves: fields.optional("waves").unwrap_or_default(),
            pause_seconds: fields.optional("pause_seconds").unwrap_or_default(),
            max_failures: fields.text("max_failures"),
        };
        if request.pause_seconds > PAUSE_SECONDS_MAX {
            fields.invalid("pause_seconds", format!("at most {PAUSE_SECONDS_MAX} seconds"));
            return None;
        }
        Some(Self(request))
    }
}

/// Bring the fleet to the newest migration, as the operation that is answered: read it for how far it is.
#[utoipa::path(post, path = "/v1/migrations", tag = "migrations", request_body = NewRolloutSchema,
    responses((status = 202, body = OperationBody), (status = 409), (status = 422)))]
pub(crate) async fn start_rollout(
    State(services): State<Services>,
    Caller(authority): Caller,
    Body(NewRolloutBody(request)): Body<NewRolloutBody>,
) -> Result<(StatusCode, Json<OperationBody>), Problem> {
    let operation = services
        .ops
        .start_rollout(&authority, &request)
        .await
        .map_err(refusal::of_migration)?;
    Ok((StatusCode::ACCEPTED, Json(operation.into())))
}
