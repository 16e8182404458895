//! API keys of a tenant.

use axum::{Json, extract::State, http::StatusCode};
use chrono::{DateTime, Utc};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use tenantry::axum::{Body, Fields, FromFields, Path, Problem, Query};
use tenantry_core::{ApiKeyId, Role};
use tenantry_ops::{ApiKey, ApiKeyRequest};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    idempotency::IdempotencyKey,
    named::tenant_id,
    page::{Page, PageParams, Paging},
    words,
};
use crate::{Services, caller::Caller, refusal};

const LIST: &str = "api-keys";

/// An API key, without its text.
#[derive(Serialize, ToSchema)]
#[schema(as = ApiKey)]
pub(crate) struct ApiKeyBody {
    id: Uuid,
    name: String,
    /// `owner`, `admin`, `member` or `viewer`.
    role: &'static str,
    created_by: String,
    created_at: DateTime<Utc>,
    expires_at: Option<DateTime<Utc>>,
}

impl From<ApiKey> for ApiKeyBody {
    fn from(key: ApiKey) -> Self {
        Self {
            id: *key.id.as_uuid(),
            name: key.name,
            role: key.role.as_str(),
            created_by: key.created_by,
            created_at: key.created_at,
            expires_at: key.expires_at,
        }
    }
}

/// A new API key, with its text: it is shown this once.
#[derive(Serialize, ToSchema)]
pub(crate) struct ShownApiKey {
    #[serde(flatten)]
    about: ApiKeyBody,
    /// For the header `Authorization: Bearer`. Null where this repeats a request: the first answer had it.
    #[schema(required)]
    key: Option<String>,
}

/// An API key to be made.
#[derive(ToSchema)]
#[schema(as = NewApiKey)]
pub(crate) struct NewApiKeyBody {
    /// Unique among the tenant's keys.
    #[schema(min_length = 1, max_length = 100)]
    name: String,
    /// `owner`, `admin`, `member` or `viewer`; not above your own.
    #[schema(schema_with = words::role)]
    role: Role,
    expires_at: Option<DateTime<Utc>>,
}

impl FromFields for NewApiKeyBody {
    fn from_fields(fields: &mut Fields) -> Option<Self> {
        let name = fields.required("name");
        let role = fields.required("role");
        let expires_at = fields.optional("expires_at");
        Some(Self {
            name: name?,
            role: role?,
            expires_at,
        })
    }
}

/// Which keys to list.
pub(crate) struct ApiKeyQuery(Paging);

impl FromFields for ApiKeyQuery {
    fn from_fields(fields: &mut Fields) -> Option<Self> {
        Paging::newest_first(fields).map(Self)
    }
}

/// What stands in the path: the tenant's id or slug, and the key's id.
#[derive(Deserialize)]
pub(crate) struct ApiKeyPath {
    id: String,
    key: ApiKeyId,
}

/// Make an API key.
#[utoipa::path(post, path = "/v1/tenants/{id}/api-keys", tag = "api-keys",
    params(("id" = String, Path, description = "Id or slug"),
        ("Idempotency-Key" = Option<String>, Header,
            description = "The same key is the same request: it is answered with the same API key, without its text.")),
    request_body = NewApiKeyBody, responses((status = 201, body = ShownApiKey), (status = 409)))]
pub(crate) async fn create_api_key(
    State(services): State<Services>,
    Caller(authority): Caller,
    Path(tenant): Path<String>,
    key: IdempotencyKey,
    Body(body): Body<NewApiKeyBody>,
) -> Result<(StatusCode, Json<ShownApiKey>), Problem> {
    let tenant = tenant_id(&services, &authority, &tenant).await?;
    let request = ApiKeyRequest {
        name: body.name,
        role: body.role,
        expires_at: body.expires_at,
    };
    let made = services
        .ops
        .create_api_key_once(&authority, tenant, &request, key.as_deref())
        .await;
    let (key, text) = made.map_err(refusal::of_api_key)?;
    let shown = ShownApiKey {
        about: key.into(),
        key: text.map(|text| text.expose_secret().to_owned()),
    };
    Ok((StatusCode::CREATED, Json(shown)))
}

/// List the API keys of a tenant, the newest first.
#[utoipa::path(get, path = "/v1/tenants/{id}/api-keys", tag = "api-keys", params(("id" = String, Path, description = "Id or slug"), PageParams),
    responses((status = 200, body = Page<ApiKeyBody>)))]
pub(crate) async fn list_api_keys(
    State(services): State<Services>,
    Caller(authority): Caller,
    Path(tenant): Path<String>,
    Query(ApiKeyQuery(paging)): Query<ApiKeyQuery>,
) -> Result<Json<Page<ApiKeyBody>>, Problem> {
    let tenant = tenant_id(&services, &authority, &tenant).await?;
    let after = paging
        .after(&tenant, LIST)?
        .map(|(at, id)| (at, ApiKeyId::from_uuid(id)));
    let found = services
        .ops
        .list_api_keys(&authority, tenant, after, paging.limit())
        .await;
    let found = found.map_err(refusal::of_api_key)?;
    Ok(Json(
        paging.page(found, &tenant, LIST, |key| (key.created_at, *key.id.as_uuid())),
    ))
}

/// Revoke an API key.
#[utoipa::path(delete, path = "/v1/tenants/{id}/api-keys/{key}", tag = "api-keys",
    params(("id" = String, Path, description = "Id or slug"), ("key" = Uuid, Path)), responses((status = 204)))]
pub(crate) async fn revoke_api_key(
    State(services): State<Services>,
    Caller(authority): Caller,
    Path(ApiKeyPath { id, key }): Path<ApiKeyPath>,
) -> Result<StatusCode, Problem> {
    let tenant = tenant_id(&services, &authority, &id).await?;
    services
        .ops
        .revoke_api_key(&authority, tenant, key)
        .await
        .map_err(refusal::of_api_key)?;
    Ok(StatusCode::NO_CONTENT)
}
