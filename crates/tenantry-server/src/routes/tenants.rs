//! Tenants: create, list, read, change, suspend, resume, delete.

use axum::{Json, extract::State, http::StatusCode};
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Map, Value};
use tenantry::axum::{Body, Fields, FromFields, Path, Problem, Query};
use tenantry_core::{Email, Isolation, PersonName, Plan, Slug, TenantId, TenantName, TenantState};
use tenantry_ops::{
    FirstOwner, Password, Profile, Tenant, TenantCursor, TenantFilter, TenantPatch, TenantPlacement, TenantRequest,
};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    idempotency::IdempotencyKey,
    members::read_password,
    named::named,
    operations::OperationBody,
    page::{Page, PageParams, Paging},
    words,
};
use crate::{Services, caller::Caller, refusal};

const LIST: &str = "tenants";

/// A tenant.
#[derive(Serialize, ToSchema)]
#[schema(as = Tenant)]
pub(crate) struct TenantBody {
    id: Uuid,
    slug: String,
    name: String,
    plan: String,
    /// `provisioning`, `active`, `suspended`, `deleted` or `purged`.
    state: &'static str,
    /// `shared`, `schema` or `database`; null for a purged tenant.
    isolation: Option<&'static str>,
    placement: Option<PlacementBody>,
    #[schema(value_type = Object)]
    settings: Value,
    address: String,
    phone: String,
    website: String,
    /// Grows with every change.
    version: i64,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    deleted_at: Option<DateTime<Utc>>,
    /// When a deleted tenant is purged.
    purge_after: Option<DateTime<Utc>>,
    /// Why it is not purged all the same.
    legal_hold: Option<String>,
}

/// Where a tenant lives.
#[derive(Serialize, ToSchema)]
#[schema(as = Placement)]
pub(crate) struct PlacementBody {
    /// `shared`, `schema` or `database`.
    isolation: &'static str,
    /// The server's name.
    server: String,
    region: String,
    database: String,
    schema: String,
    /// Grows with each change of the placement.
    epoch: i64,
}

impl From<Tenant> for TenantBody {
    fn from(tenant: Tenant) -> Self {
        Self {
            id: *tenant.id.as_uuid(),
            slug: tenant.slug.into(),
            name: tenant.name.into(),
            plan: tenant.plan.into(),
            state: tenant.state.as_str(),
            isolation: tenant.placement.as_ref().map(|placement| placement.isolation.as_str()),
            placement: tenant.placement.map(Into::into),
            settings: tenant.settings,
            address: tenant.profile.address,
            phone: tenant.profile.phone,
            website: tenant.profile.website,
            version: tenant.version,
            created_at: tenant.created_at,
            updated_at: tenant.updated_at,
            deleted_at: tenant.deleted_at,
            purge_after: tenant.purge_after,
            legal_hold: tenant.legal_hold,
        }
    }
}

impl From<TenantPlacement> for PlacementBody {
    fn from(placement: TenantPlacement) -> Self {
        Self {
            isolation: placement.isolation.as_str(),
            server: placement.server,
            region: placement.region,
            database: placement.database,
            schema: placement.schema,
            epoch: placement.epoch.0,
        }
    }
}

/// A tenant to be created. What is left out is decided by its plan.
#[derive(ToSchema)]
#[schema(as = NewTenant)]
#[expect(dead_code, reason = "describes what `NewTenantBody` reads")]
pub(crate) struct NewTenantSchema {
    /// 2 to 48 characters of a-z, 0-9 and single hyphens.
    #[schema(min_length = 2, max_length = 48)]
    slug: String,
    #[schema(min_length = 1, max_length = 200)]
    name: String,
    /// `shared`, `schema` or `database`.
    #[schema(schema_with = words::isolation)]
    isolation: Option<String>,
    /// A server's name.
    server: Option<String>,
    region: Option<String>,
    /// `free` where nothing is said.
    plan: Option<String>,
    #[schema(value_type = Option<Object>)]
    settings: Option<Value>,
    #[schema(max_length = 1000)]
    address: Option<String>,
    #[schema(max_length = 100)]
    phone: Option<String>,
    #[schema(max_length = 500)]
    website: Option<String>,
    admin: Option<FirstOwnerSchema>,
}

/// The first owner of a tenant. Password and name are ignored where the e-mail has an account already.
#[derive(ToSchema)]
#[schema(as = FirstOwner)]
#[expect(dead_code, reason = "describes what `FirstOwnerBody` reads")]
pub(crate) struct FirstOwnerSchema {
    #[schema(format = Email)]
    email: String,
    /// 8 to 128 characters, none of the common passwords.
    #[schema(format = Password, min_length = 8, max_length = 128)]
    password: Option<String>,
    #[schema(max_length = 200)]
    name: Option<String>,
}

/// What is read of [`NewTenantSchema`].
pub(crate) struct NewTenantBody(TenantRequest);

impl FromFields for NewTenantBody {
    fn from_fields(fields: &mut Fields) -> Option<Self> {
        let slug = fields.required::<Slug>("slug");
        let name = fields.required::<TenantName>("name");
        let isolation = fields.optional::<Isolation>("isolation");
        let server = fields.text("server");
        let region = fields.text("region");
        let plan = fields.optional::<Plan>("plan");
        let settings = fields.optional::<Map<String, Value>>("settings").map(Value::Object);
        let profile = Profile {
            address: fields.optional("address").unwrap_or_default(),
            phone: fields.optional("phone").unwrap_or_default(),
            website: fields.optional("website").unwrap_or_default(),
        };
        let admin = fields.object::<FirstOwnerBody>("admin").map(|admin| admin.0);
        let request = TenantRequest::new(slug?, name?);
        Some(Self(TenantRequest {
            isolation,
            server,
            region,
            plan,
            settings,
            profile,
            admin,
            ..request
        }))
    }
}

struct FirstOwnerBody(FirstOwner);

impl FromFields for FirstOwnerBody {
    fn from_fields(fields: &mut Fields) -> Option<Self> {
        let email = fields.required::<Email>("email");
        let password: Option<Password> = read_password(fields, email.as_ref());
        let name = fields.optional::<PersonName>("name");
        Some(Self(FirstOwner {
            email: email?,
            name,
            password,
        }))
    }
}

/// What to change of a tenant; what is left out stays.
#[derive(ToSchema)]
#[schema(as = TenantChange)]
#[expect(dead_code, reason = "describes what `TenantChangeBody` reads")]
pub(crate) struct TenantChangeSchema {
    #[schema(min_length = 2, max_length = 48)]
    slug: Option<String>,
    #[schema(min_length = 1, max_length = 200)]
    name: Option<String>,
    plan: Option<String>,
    /// The settings as a whole.
    #[schema(value_type = Option<Object>)]
    settings: Option<Value>,
    #[schema(max_length = 1000)]
    address: Option<String>,
    #[schema(max_length = 100)]
    phone: Option<String>,
    #[schema(max_length = 500)]
    website: Option<String>,
}

/// What is read of [`TenantChangeSchema`].
pub(crate) struct TenantChangeBody(TenantPatch);

impl FromFields for TenantChangeBody {
    fn from_fields(fields: &mut Fields) -> Option<Self> {
        let mut emptied = |name| fields.change::<String>(name).map(Option::unwrap_or_default);
        let (address, phone, website) = (emptied("address"), emptied("phone"), emptied("website"));
        Some(Self(TenantPatch {
            slug: fields.change_required("slug"),
            name: fields.change_required("name"),
            plan: fields.change_required("plan"),
            settings: fields
                .change_required::<Map<String, Value>>("settings")
                .map(Value::Object),
            address,
            phone,
            website,
        }))
    }
}

/// Which tenants to list.
pub(crate) struct TenantQuery {
    paging: Paging,
    filter: TenantFilter,
}

impl FromFields for TenantQuery {
    fn from_fields(fields: &mut Fields) -> Option<Self> {
        let paging = Paging::either_way(fields);
        let filter = TenantFilter {
            q: fields.text("q"),
            state: fields.optional::<TenantState>("state"),
            isolation: fields.optional::<Isolation>("isolation"),
            plan: fields.text("plan"),
            slug: fields.text("slug"),
            name: fields.text("name"),
            server: fields.text("server"),
            region: fields.text("region"),
            ..TenantFilter::default()
        };
        Some(Self {
            paging: paging?,
            filter,
        })
    }
}

/// Create a tenant: provisions its home, applies the migrations, makes its first owner, and answers when it is active.
#[utoipa::path(post, path = "/v1/tenants", tag = "tenants", request_body = NewTenantSchema,
    params(("Idempotency-Key" = Option<String>, Header, description = "The same key is the same request.")),
    responses((status = 201, body = TenantBody), (status = 409), (status = 422)))]
pub(crate) async fn create_tenant(
    State(services): State<Services>,
    Caller(authority): Caller,
    key: IdempotencyKey,
    Body(NewTenantBody(request)): Body<NewTenantBody>,
) -> Result<(StatusCode, Json<TenantBody>), Problem> {
    let tenant = services
        .ops
        .create_tenant(&authority, &request, key.as_deref())
        .await
        .map_err(refusal::of_tenant)?;
    Ok((StatusCode::CREATED, Json(tenant.into())))
}

/// List tenants, the newest first.
#[utoipa::path(get, path = "/v1/tenants", tag = "tenants",
    params(PageParams, ("q" = Option<String>, Query), ("state" = Option<String>, Query),
        ("isolation" = Option<String>, Query), ("plan" = Option<String>, Query), ("slug" = Option<String>, Query),
        ("name" = Option<String>, Query), ("server" = Option<String>, Query), ("region" = Option<String>, Query)),
    responses((status = 200, body = Page<TenantBody>)))]
pub(crate) async fn list_tenants(
    State(services): State<Services>,
    Caller(authority): Caller,
    Query(TenantQuery { paging, mut filter }): Query<TenantQuery>,
) -> Result<Json<Page<TenantBody>>, Problem> {
    let after = paging.after(&(), LIST)?;
    filter.after = after.map(|(created_at, id)| TenantCursor {
        created_at,
        id: TenantId::from_uuid(id),
    });
    filter.oldest_first = paging.oldest_first;
    let found = services
        .ops
        .list_tenants(&authority, &filter, paging.limit())
        .await
        .map_err(refusal::of_tenant)?;
    Ok(Json(paging.page(found, &(), LIST, |tenant| {
        (tenant.created_at, *tenant.id.as_uuid())
    })))
}

/// Read a tenant.
#[utoipa::path(get, path = "/v1/tenants/{id}", tag = "tenants", params(("id" = String, Path, description = "Id or slug")),
    responses((status = 200, body = TenantBody)))]
pub(crate) async fn get_tenant(
    State(services): State<Services>,
    Caller(authority): Caller,
    Path(tenant): Path<String>,
) -> Result<Json<TenantBody>, Problem> {
    let tenant = services
        .ops
        .get_tenant(&authority, &named(&tenant)?)
        .await
        .map_err(refusal::of_tenant)?;
    Ok(Json(tenant.into()))
}

/// Change a tenant.
#[utoipa::path(patch, path = "/v1/tenants/{id}", tag = "tenants", params(("id" = String, Path, description = "Id or slug")),
    request_body = TenantChangeSchema, responses((status = 200, body = TenantBody), (status = 409)))]
pub(crate) async fn update_tenant(
    State(services): State<Services>,
    Caller(authority): Caller,
    Path(tenant): Path<String>,
    Body(TenantChangeBody(change)): Body<TenantChangeBody>,
) -> Result<Json<TenantBody>, Problem> {
    let tenant = services
        .ops
        .update_tenant(&authority, &named(&tenant)?, &change)
        .await
        .map_err(refusal::of_tenant)?;
    Ok(Json(tenant.into()))
}

/// Stop serving a tenant; its rows stay.
#[utoipa::path(post, path = "/v1/tenants/{id}/suspend", tag = "tenants",
    params(("id" = String, Path, description = "Id or slug"),
        ("Idempotency-Key" = Option<String>, Header, description = "The same key is the same request.")),
    responses((status = 200, body = TenantBody), (status = 409)))]
pub(crate) async fn suspend_tenant(
    State(services): State<Services>,
    Caller(authority): Caller,
    Path(tenant): Path<String>,
    key: IdempotencyKey,
) -> Result<Json<TenantBody>, Problem> {
    let tenant = services
        .ops
        .suspend_tenant_once(&authority, &named(&tenant)?, key.as_deref())
        .await
        .map_err(refusal::of_tenant)?;
    Ok(Json(tenant.into()))
}

/// Serve a suspended tenant again, or recover a deleted one.
#[utoipa::path(post, path = "/v1/tenants/{id}/resume", tag = "tenants",
    params(("id" = String, Path, description = "Id or slug"),
        ("Idempotency-Key" = Option<String>, Header, description = "The same key is the same request.")),
    responses((status = 200, body = TenantBody), (status = 409)))]
pub(crate) async fn resume_tenant(
    State(services): State<Services>,
    Caller(authority): Caller,
    Path(tenant): Path<String>,
    key: IdempotencyKey,
) -> Result<Json<TenantBody>, Problem> {
    let tenant = services
        .ops
        .resume_tenant_once(&authority, &named(&tenant)?, key.as_deref())
        .await
        .map_err(refusal::of_tenant)?;
    Ok(Json(tenant.into()))
}

/// Why a tenant is kept.
#[derive(ToSchema)]
pub(crate) struct HoldBody {
    #[schema(min_length = 1, max_length = 500)]
    reason: String,
}

impl FromFields for HoldBody {
    fn from_fields(fields: &mut Fields) -> Option<Self> {
        let reason = fields.required("reason");
        Some(Self { reason: reason? })
    }
}

/// Keep a tenant from being purged, whatever its retention time says.
#[utoipa::path(put, path = "/v1/tenants/{id}/legal-hold", tag = "tenants",
    params(("id" = String, Path, description = "Id or slug")),
    request_body = HoldBody, responses((status = 200, body = TenantBody), (status = 409)))]
pub(crate) async fn hold_tenant(
    State(services): State<Services>,
    Caller(authority): Caller,
    Path(tenant): Path<String>,
    Body(hold): Body<HoldBody>,
) -> Result<Json<TenantBody>, Problem> {
    let tenant = services
        .ops
        .hold_tenant(&authority, &named(&tenant)?, &hold.reason)
        .await
        .map_err(refusal::of_tenant)?;
    Ok(Json(tenant.into()))
}

/// End a legal hold; a tenant whose retention time is over is purged then.
#[utoipa::path(delete, path = "/v1/tenants/{id}/legal-hold", tag = "tenants",
    params(("id" = String, Path, description = "Id or slug")), responses((status = 204), (status = 409)))]
pub(crate) async fn release_tenant(
    State(services): State<Services>,
    Caller(authority): Caller,
    Path(tenant): Path<String>,
) -> Result<StatusCode, Problem> {
    services
        .ops
        .release_tenant(&authority, &named(&tenant)?)
        .await
        .map_err(refusal::of_tenant)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Mark a tenant deleted: recoverable for the retention time, then purged by the operation that is answered.
#[utoipa::path(delete, path = "/v1/tenants/{id}", tag = "tenants", params(("id" = String, Path, description = "Id or slug")),
    responses((status = 202, body = OperationBody), (status = 409)))]
pub(crate) async fn delete_tenant(
    State(services): State<Services>,
    Caller(authority): Caller,
    Path(tenant): Path<String>,
) -> Result<(StatusCode, Json<OperationBody>), Problem> {
    let purge = services
        .ops
        .delete_tenant(&authority, &named(&tenant)?)
        .await
        .map_err(refusal::of_tenant)?;
    Ok((StatusCode::ACCEPTED, Json(purge.into())))
}
