//! Users of a tenant.

use axum::{Json, extract::State, http::StatusCode};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tenantry::axum::{Body, Fields, FromFields, Path, Problem, Query};
use tenantry_core::{AccountId, Email, MembershipStatus, PersonName, Role};
use tenantry_ops::{Member, MemberFilter, NewMember, Password};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    idempotency::IdempotencyKey,
    named::tenant_id,
    page::{Page, PageParams, Paging},
    words,
};
use crate::{Services, caller::Caller, refusal};

const LIST: &str = "members";

/// A user of a tenant.
#[derive(Serialize, ToSchema)]
#[schema(as = Member)]
pub(crate) struct MemberBody {
    account_id: Uuid,
    email: String,
    name: String,
    /// `owner`, `admin`, `member` or `viewer`.
    role: &'static str,
    /// `active`, or `invited` until the person shows up.
    status: &'static str,
    created_at: DateTime<Utc>,
}

impl From<Member> for MemberBody {
    fn from(member: Member) -> Self {
        Self {
            account_id: *member.account.as_uuid(),
            email: member.email,
            name: member.name,
            role: member.role.as_str(),
            status: member.status.as_str(),
            created_at: member.created_at,
        }
    }
}

/// A user to be added. Password and name are ignored where the e-mail has an account already.
#[derive(ToSchema)]
#[schema(as = NewMember)]
pub(crate) struct NewMemberBody {
    #[schema(value_type = String, format = Email)]
    email: Email,
    /// 8 to 128 characters, none of the common passwords.
    #[schema(value_type = Option<String>, format = Password, min_length = 8, max_length = 128)]
    password: Option<Password>,
    #[schema(value_type = Option<String>, max_length = 200)]
    name: Option<PersonName>,
    /// `owner`, `admin`, `member` or `viewer`; not above your own.
    #[schema(schema_with = words::role)]
    role: Role,
}

impl FromFields for NewMemberBody {
    fn from_fields(fields: &mut Fields) -> Option<Self> {
        let email = fields.required("email");
        let password = read_password(fields, email.as_ref());
        let name = fields.optional("name");
        let role = fields.required("role");
        Some(Self {
            email: email?,
            password,
            name,
            role: role?,
        })
    }
}

/// A password that fits the person; noted as invalid otherwise.
pub(super) fn read_password(fields: &mut Fields, email: Option<&Email>) -> Option<Password> {
    let text = fields.optional::<String>("password")?;
    // Without a valid e-mail the request is refused anyway.
    match Password::new(text, email?) {
        Ok(password) => Some(password),
        Err(error) => {
            fields.invalid("password", error.to_string());
            None
        }
    }
}

/// What to change of a member.
#[derive(ToSchema)]
pub(crate) struct MemberChange {
    /// `owner`, `admin`, `member` or `viewer`; not above your own.
    #[schema(schema_with = words::role)]
    role: Role,
}

impl FromFields for MemberChange {
    fn from_fields(fields: &mut Fields) -> Option<Self> {
        Some(Self {
            role: fields.required("role")?,
        })
    }
}

/// Which members to list.
pub(crate) struct MemberQuery {
    paging: Paging,
    q: Option<String>,
    email: Option<String>,
    role: Option<Role>,
    status: Option<MembershipStatus>,
}

impl FromFields for MemberQuery {
    fn from_fields(fields: &mut Fields) -> Option<Self> {
        let paging = Paging::newest_first(fields);
        let q = fields.text("q");
        let email = fields.text("email");
        let role = fields.optional("role");
        let status = fields.optional("status");
        Some(Self {
            paging: paging?,
            q,
            email,
            role,
            status,
        })
    }
}

/// What stands in the path: the tenant's id or slug, and the account's id.
#[derive(Deserialize)]
pub(crate) struct MemberPath {
    id: String,
    account: AccountId,
}

/// Add a user to a tenant: shown as `invited` until the person logs in or, where the e-mail had an account already, accepts.
#[utoipa::path(post, path = "/v1/tenants/{id}/members", tag = "members",
    params(("id" = String, Path, description = "Id or slug"),
        ("Idempotency-Key" = Option<String>, Header, description = "The same key is the same request.")),
    request_body = NewMemberBody, responses((status = 201, body = MemberBody), (status = 409)))]
pub(crate) async fn add_member(
    State(services): State<Services>,
    Caller(authority): Caller,
    Path(tenant): Path<String>,
    key: IdempotencyKey,
    Body(body): Body<NewMemberBody>,
) -> Result<(StatusCode, Json<MemberBody>), Problem> {
    let tenant = tenant_id(&services, &authority, &tenant).await?;
    let new = NewMember {
        email: body.email,
        name: body.name,
        password: body.password,
        role: body.role,
    };
    let member = services
        .ops
        .add_member_once(&authority, tenant, &new, key.as_deref())
        .await
        .map_err(refusal::of_member)?;
    Ok((StatusCode::CREATED, Json(member.into())))
}

/// List the users of a tenant, the newest first.
#[utoipa::path(get, path = "/v1/tenants/{id}/members", tag = "members",
    params(("id" = String, Path, description = "Id or slug"), PageParams, ("q" = Option<String>, Query), ("email" = Option<String>, Query),
        ("role" = Option<String>, Query), ("status" = Option<String>, Query)),
    responses((status = 200, body = Page<MemberBody>)))]
pub(crate) async fn list_members(
    State(services): State<Services>,
    Caller(authority): Caller,
    Path(tenant): Path<String>,
    Query(query): Query<MemberQuery>,
) -> Result<Json<Page<MemberBody>>, Problem> {
    let tenant = tenant_id(&services, &authority, &tenant).await?;
    let after = query.paging.after(&tenant, LIST)?;
    let filter = MemberFilter {
        q: query.q.as_deref(),
        email: query.email.as_deref(),
        role: query.role,
        status: query.status,
        after: after.map(|(at, id)| (at, AccountId::from_uuid(id))),
    };
    let limit = query.paging.limit();
    let found = services
        .ops
        .list_members(&authority, tenant, &filter, limit)
        .await
        .map_err(refusal::of_member)?;
    let place = |member: &Member| (member.created_at, *member.account.as_uuid());
    Ok(Json(query.paging.page(found, &tenant, LIST, place)))
}

/// Give a user another role.
#[utoipa::path(patch, path = "/v1/tenants/{id}/members/{account}", tag = "members",
    params(("id" = String, Path, description = "Id or slug"), ("account" = Uuid, Path)), request_body = MemberChange,
    responses((status = 200, body = MemberBody), (status = 409)))]
pub(crate) async fn update_member(
    State(services): State<Services>,
    Caller(authority): Caller,
    Path(MemberPath { id, account }): Path<MemberPath>,
    Body(change): Body<MemberChange>,
) -> Result<Json<MemberBody>, Problem> {
    let tenant = tenant_id(&services, &authority, &id).await?;
    let member = services
        .ops
        .set_member_role(&authority, tenant, account, change.role)
        .await
        .map_err(refusal::of_member)?;
    Ok(Json(member.into()))
}

/// End a user's membership.
#[utoipa::path(delete, path = "/v1/tenants/{id}/members/{account}", tag = "members",
    params(("id" = String, Path, description = "Id or slug"), ("account" = Uuid, Path)), responses((status = 204), (status = 409)))]
pub(crate) async fn remove_member(
    State(services): State<Services>,
    Caller(authority): Caller,
    Path(MemberPath { id, account }): Path<MemberPath>,
) -> Result<StatusCode, Problem> {
    let tenant = tenant_id(&services, &authority, &id).await?;
    services
        .ops
        .remove_member(&authority, tenant, account)
        .await
        .map_err(refusal::of_member)?;
    Ok(StatusCode::NO_CONTENT)
}
