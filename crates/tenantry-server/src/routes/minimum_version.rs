//! Which migration tenants have to have to be served.

use axum::{Json, extract::State};
use serde::Serialize;
use tenantry::axum::{Body, Fields, FromFields, Problem};
use tenantry_ops::RequiredVersion;
use utoipa::ToSchema;

use crate::{Services, caller::Caller, refusal};

/// What is required, and how many lack it.
#[derive(Serialize, ToSchema)]
#[schema(as = MinimumVersion)]
pub(crate) struct MinimumVersionBody {
    /// Only tenants that have this migration are served; 0 for all.
    minimum_version: i64,
    /// How many schemas with the application's tables there are; shared tables are one for each server.
    schemas: usize,
    /// How many of them lack it.
    behind: usize,
}

impl From<RequiredVersion> for MinimumVersionBody {
    fn from(required: RequiredVersion) -> Self {
        Self {
            minimum_version: required.version,
            schemas: required.schemas,
            behind: required.behind,
        }
    }
}

/// Which migration tenants have to have.
#[derive(ToSchema)]
#[schema(as = NewMinimumVersion)]
#[expect(dead_code, reason = "describes what `NewMinimumVersionBody` reads")]
pub(crate) struct NewMinimumVersionSchema {
    /// Its number; 0 serves everybody.
    #[schema(minimum = 0)]
    version: i64,
}

/// What is read of [`NewMinimumVersionSchema`].
pub(crate) struct NewMinimumVersionBody(i64);

impl FromFields for NewMinimumVersionBody {
    fn from_fields(fields: &mut Fields) -> Option<Self> {
        fields.required("version").map(Self)
    }
}

/// Serve only tenants whose tables have this migration; the others are answered `tenant-migrating` until a roll-out has reached them. Every
/// process keeps to it within a second.
#[utoipa::path(put, path = "/v1/migrations/minimum-version", tag = "migrations", request_body = NewMinimumVersionSchema,
    responses((status = 200, body = MinimumVersionBody), (status = 409), (status = 422)))]
pub(crate) async fn set_minimum_version(
    State(services): State<Services>,
    Caller(authority): Caller,
    Body(NewMinimumVersionBody(version)): Body<NewMinimumVersionBody>,
) -> Result<Json<MinimumVersionBody>, Problem> {
    let required = services.ops.require_schema_version(&authority, version).await;
    Ok(Json(required.map_err(refusal::of_migration)?.into()))
}
