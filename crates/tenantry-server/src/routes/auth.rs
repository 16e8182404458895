//! Log in, stay logged in, change the tenant, log out.

use axum::{
    Json,
    extract::{Extension, State},
    http::StatusCode,
};
use chrono::{DateTime, Utc};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use tenantry::axum::{Body, Code, Fields, FromFields, Problem};
use tenantry_core::Email;
use tenantry_ops::{LoggedIn, Login, Origin, Password};
use utoipa::ToSchema;
use uuid::Uuid;

use super::place::PlaceBody;
use crate::{
    Services,
    caller::{Invited, Page, Person},
    refusal,
};

/// E-mail and password, and which tenant to open.
#[derive(ToSchema)]
pub(crate) struct LoginBody {
    email: String,
    #[schema(value_type = String, format = Password)]
    password: SecretString,
    /// Slug or id. May be left out on the host of a tenant of one's own, by whoever has one membership, or to choose later.
    tenant: Option<String>,
}

impl FromFields for LoginBody {
    fn from_fields(fields: &mut Fields) -> Option<Self> {
        let email = fields.required("email");
        let password = fields.required::<String>("password");
        let tenant = fields.optional("tenant");
        Some(Self {
            email: email?,
            password: password?.into(),
            tenant,
        })
    }
}

/// A refresh token.
#[derive(ToSchema)]
pub(crate) struct RefreshBody {
    #[schema(value_type = String)]
    refresh_token: SecretString,
}

impl FromFields for RefreshBody {
    fn from_fields(fields: &mut Fields) -> Option<Self> {
        Some(Self {
            refresh_token: fields.required::<String>("refresh_token")?.into(),
        })
    }
}

/// A tenant.
#[derive(ToSchema)]
pub(crate) struct TenantChoice {
    /// Slug or id.
    tenant: String,
}

impl FromFields for TenantChoice {
    fn from_fields(fields: &mut Fields) -> Option<Self> {
        Some(Self {
            tenant: fields.required("tenant")?,
        })
    }
}

/// The password that is, and the one that shall be.
#[derive(ToSchema)]
pub(crate) struct PasswordChange {
    #[schema(value_type = String, format = Password)]
    password: SecretString,
    /// 8 to 128 characters, none of the common passwords.
    #[schema(format = Password, min_length = 8, max_length = 128)]
    new_password: String,
}

impl FromFields for PasswordChange {
    fn from_fields(fields: &mut Fields) -> Option<Self> {
        let password = fields.required::<String>("password");
        let new_password = fields.required("new_password");
        Some(Self {
            password: password?.into(),
            new_password: new_password?,
        })
    }
}

/// Tokens, and what they open.
#[derive(Serialize, ToSchema)]
pub(crate) struct Tokens {
    /// For the header `Authorization: Bearer`.
    access_token: String,
    /// Good for one refresh; using it twice ends the log-in.
    refresh_token: String,
    token_type: &'static str,
    /// How long the access token lives, in seconds.
    expires_in: u64,
    /// The tenant that the access token opens; null for whoever has several and named none.
    tenant: Option<PlaceBody>,
    memberships: Vec<PlaceBody>,
}

impl From<LoggedIn> for Tokens {
    fn from(logged_in: LoggedIn) -> Self {
        Self {
            access_token: logged_in.access_token.expose_secret().to_owned(),
            refresh_token: logged_in.refresh_token.expose_secret().to_owned(),
            token_type: "Bearer",
            expires_in: logged_in.expires_in.as_secs(),
            tenant: logged_in.tenant.map(Into::into),
            memberships: logged_in.memberships.into_iter().map(Into::into).collect(),
        }
    }
}

/// A person.
#[derive(Serialize, ToSchema)]
pub(crate) struct Me {
    account_id: Uuid,
    email: String,
    name: String,
    last_login_at: Option<DateTime<Utc>>,
    created_at: DateTime<Utc>,
    /// The tenant that the access token opens.
    tenant: Option<PlaceBody>,
    memberships: Vec<PlaceBody>,
}

/// Log in with e-mail and password.
#[utoipa::path(post, path = "/v1/auth/login", tag = "auth", request_body = LoginBody,
    responses((status = 200, body = Tokens), (status = 401), (status = 429)))]
pub(crate) async fn log_in(
    State(services): State<Services>,
    Extension(origin): Extension<Origin>,
    page: Page,
    Body(body): Body<LoginBody>,
) -> Result<Json<Tokens>, Problem> {
    let login = Login {
        email: &body.email,
        password: body.password,
        tenant: body.tenant.as_deref(),
        origin,
    };
    let logged_in = services.ops.login_at(&login, page.0).await.map_err(refusal::of_login)?;
    Ok(Json(logged_in.into()))
}

/// Exchange a refresh token for new tokens.
#[utoipa::path(post, path = "/v1/auth/refresh", tag = "auth", request_body = RefreshBody,
    responses((status = 200, body = Tokens), (status = 401)))]
pub(crate) async fn refresh_tokens(
    State(services): State<Services>,
    Extension(origin): Extension<Origin>,
    Body(body): Body<RefreshBody>,
) -> Result<Json<Tokens>, Problem> {
    let logged_in = services
        .ops
        .refresh(&body.refresh_token, &origin)
        .await
        .map_err(refusal::of_login)?;
    Ok(Json(logged_in.into()))
}

/// Get tokens that open another of the person's tenants.
#[utoipa::path(post, path = "/v1/auth/switch", tag = "auth", request_body = TenantChoice,
    responses((status = 200, body = Tokens), (status = 403)))]
pub(crate) async fn switch_tenant(
    State(services): State<Services>,
    person: Person,
    Body(body): Body<TenantChoice>,
) -> Result<Json<Tokens>, Problem> {
    let logged_in = services
        .ops
        .switch(person.session, &body.tenant)
        .await
        .map_err(refusal::of_login)?;
    Ok(Json(logged_in.into()))
}

/// Accept the invitation to a tenant. Another issuer's token that names a tenant accepts for that one only.
#[utoipa::path(post, path = "/v1/auth/accept", tag = "auth", request_body = TenantChoice,
    responses((status = 200, body = PlaceBody), (status = 404)))]
pub(crate) async fn accept_invitation(
    State(services): State<Services>,
    invited: Invited,
    Extension(origin): Extension<Origin>,
    Body(body): Body<TenantChoice>,
) -> Result<Json<PlaceBody>, Problem> {
    let Invited {
        account,
        session,
        tenant: only_in,
    } = invited;
    let accepted = match session {
        Some(session) => services.ops.accept(session, &body.tenant, &origin).await,
        None => {
            let ops = &services.ops;
            ops.accept_from_outside(account, only_in, &body.tenant, &origin).await
        }
    };
    Ok(Json(accepted.map_err(refusal::of_login)?.into()))
}

/// Change the own password: every other log-in ends.
#[utoipa::path(post, path = "/v1/auth/password", tag = "auth", request_body = PasswordChange,
    responses((status = 204), (status = 401), (status = 422)))]
pub(crate) async fn change_password(
    State(services): State<Services>,
    person: Person,
    Extension(origin): Extension<Origin>,
    Body(change): Body<PasswordChange>,
) -> Result<StatusCode, Problem> {
    let me = services.ops.me(person.session.account, None).await;
    let email = me.map_err(refusal::of_login)?.account.email;
    let email: Email = email.parse().map_err(|error| refusal::internal(&error))?;
    let new = Password::new(change.new_password, &email)
        .map_err(|error| Problem::field(Code::InvalidField, "new_password", error.to_string()))?;
    services
        .ops
        .change_password(person.session, &change.password, &new, &origin)
        .await
        .map_err(refusal::of_login)?;
    Ok(StatusCode::NO_CONTENT)
}

/// End the log-in: its tokens open nothing any more.
#[utoipa::path(post, path = "/v1/auth/logout", tag = "auth", responses((status = 204)))]
pub(crate) async fn log_out(State(services): State<Services>, person: Person) -> Result<StatusCode, Problem> {
    services.ops.logout(person.session).await.map_err(refusal::of_login)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Who am I, and where.
#[utoipa::path(get, path = "/v1/auth/me", tag = "auth", responses((status = 200, body = Me)))]
pub(crate) async fn get_me(State(services): State<Services>, person: Person) -> Result<Json<Me>, Problem> {
    let me = services
        .ops
        .me(person.session.account, person.tenant)
        .await
        .map_err(refusal::of_login)?;
    Ok(Json(Me {
        account_id: *me.account.id.as_uuid(),
        email: me.account.email,
        name: me.account.name,
        last_login_at: me.account.last_login_at,
        created_at: me.account.created_at,
        tenant: me.tenant.map(Into::into),
        memberships: me.memberships.into_iter().map(Into::into).collect(),
    }))
}
