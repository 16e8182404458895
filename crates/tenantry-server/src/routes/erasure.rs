//! What is left of a purged tenant, with a signature.

use axum::{Json, extract::State};
use serde::Serialize;
use tenantry::axum::{Path, Problem};
use tenantry_ops::{Certificate, Erasure};
use utoipa::ToSchema;

use super::named::named;
use crate::{Services, caller::Caller, refusal};

/// A certificate, and the line with its signature.
#[derive(Serialize, ToSchema)]
#[schema(as = Erasure)]
pub(crate) struct ErasureBody {
    /// What was looked for, where, and what was found.
    #[schema(value_type = Object)]
    certificate: Certificate,
    /// The same, signed as RFC 7515 says; the key is among those of `/.well-known/jwks.json`.
    jws: String,
}

impl From<Erasure> for ErasureBody {
    fn from(erasure: Erasure) -> Self {
        Self {
            certificate: erasure.certificate,
            jws: erasure.jws,
        }
    }
}

/// Read the latest certificate that nothing of a purged tenant is left.
#[utoipa::path(get, path = "/v1/tenants/{id}/erasure", tag = "tenants",
    params(("id" = String, Path, description = "Id, or the slug that it had")),
    responses((status = 200, body = ErasureBody), (status = 409)))]
pub(crate) async fn get_erasure(
    State(services): State<Services>,
    Caller(authority): Caller,
    Path(tenant): Path<String>,
) -> Result<Json<ErasureBody>, Problem> {
    let erasure = services.ops.find_erasure(&authority, &named(&tenant)?).await;
    Ok(Json(erasure.map_err(|error| refusal::of_erasure(&error))?.into()))
}
