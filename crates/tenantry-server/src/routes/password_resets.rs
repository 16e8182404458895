//! A new password for whoever has forgotten the old one: an operator offers it, the person sets it.

use axum::{
    Json,
    extract::{Extension, State},
    http::StatusCode,
};
use chrono::{DateTime, Utc};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use tenantry::axum::{Body, Fields, FromFields, Problem};
use tenantry_core::Email;
use tenantry_ops::{Origin, PasswordReset};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{Services, caller::Caller, refusal};

/// Whose password.
#[derive(ToSchema)]
#[schema(as = NewPasswordReset)]
pub(crate) struct NewPasswordResetBody {
    #[schema(value_type = String, format = Email)]
    email: Email,
}

impl FromFields for NewPasswordResetBody {
    fn from_fields(fields: &mut Fields) -> Option<Self> {
        Some(Self {
            email: fields.required("email")?,
        })
    }
}

/// A reset, with its token: it is shown this once.
#[derive(Serialize, ToSchema)]
#[schema(as = PasswordReset)]
pub(crate) struct PasswordResetBody {
    account_id: Uuid,
    email: String,
    /// For the person, who sets the new password with it by `POST /v1/auth/reset-password`.
    token: String,
    expires_at: DateTime<Utc>,
}

impl From<PasswordReset> for PasswordResetBody {
    fn from(reset: PasswordReset) -> Self {
        Self {
            account_id: *reset.account.as_uuid(),
            email: reset.email,
            token: reset.token.expose_secret().to_owned(),
            expires_at: reset.expires_at,
        }
    }
}

/// The token, and the password that shall be.
#[derive(ToSchema)]
pub(crate) struct PasswordSetting {
    #[schema(value_type = String)]
    token: SecretString,
    /// 8 to 128 characters, none of the common passwords.
    #[schema(format = Password, min_length = 8, max_length = 128)]
    new_password: String,
}

impl FromFields for PasswordSetting {
    fn from_fields(fields: &mut Fields) -> Option<Self> {
        let token = fields.required::<String>("token");
        let new_password = fields.required("new_password");
        Some(Self {
            token: token?.into(),
            new_password: new_password?,
        })
    }
}

/// Offer a person a new password: the old one and every log-in of the account end.
#[utoipa::path(post, path = "/v1/password-resets", tag = "accounts", request_body = NewPasswordResetBody,
    responses((status = 201, body = PasswordResetBody), (status = 404)))]
pub(crate) async fn offer_password_reset(
    State(services): State<Services>,
    Caller(authority): Caller,
    Body(body): Body<NewPasswordResetBody>,
) -> Result<(StatusCode, Json<PasswordResetBody>), Problem> {
    let offered = services.ops.offer_password_reset(&authority, &body.email).await;
    let reset = offered.map_err(refusal::of_password_reset_offer)?;
    Ok((StatusCode::CREATED, Json(reset.into())))
}

/// Set a new password with the token of a reset.
#[utoipa::path(post, path = "/v1/auth/reset-password", tag = "auth", request_body = PasswordSetting,
    responses((status = 204), (status = 401), (status = 422)))]
pub(crate) async fn reset_password(
    State(services): State<Services>,
    Extension(origin): Extension<Origin>,
    Body(body): Body<PasswordSetting>,
) -> Result<StatusCode, Problem> {
    let set = services
        .ops
        .reset_password(&body.token, body.new_password, &origin)
        .await;
    set.map_err(refusal::of_password_reset)?;
    Ok(StatusCode::NO_CONTENT)
}
