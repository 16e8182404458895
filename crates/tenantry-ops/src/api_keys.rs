//! API keys: programs that act in one tenant.

use chrono::{DateTime, Datelike, Utc};
use secrecy::SecretString;
use serde_json::json;
use tenantry_catalog::{
    CatalogError,
    api_key::{self, ApiKey, NewApiKey},
    change, membership,
};
use tenantry_core::{Actor, ApiKeyId, Change, CredentialKind, Role, TenantId, TenantState};
use uuid::Uuid;

use crate::{
    Authority, Forbidden, MemberError, Ops,
    audit::{self, Act},
    idempotency::{KeyError, Keyed},
    members::{acting_role, recheck},
    secret,
};

/// What a key's name may be.
pub(crate) fn valid_name(name: &str) -> bool {
    (1..=100).contains(&name.chars().count()) && !name.trim().is_empty() && !name.chars().any(char::is_control)
}

/// When a key may end: to come, and in a year that RFC 3339 can write.
pub(crate) fn valid_end(end: DateTime<Utc>) -> bool {
    end > Utc::now() && end.year() <= 9999
}

/// A key that shall be made.
#[derive(Clone, Debug)]
pub struct ApiKeyRequest {
    /// Its name, unique in the tenant: 1 to 100 characters, no control characters.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// When it stops working.
    pub expires_at: Option<DateTime<Utc>>,
}

/// Why an API key was not shown, made or revoked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApiKeyError {
    /// The authority does not allow it: too low a role, or an API key itself.
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
    /// There is no such tenant or key that the authority may know of.
    #[error("there is no such tenant or API key")]
    NotFound,
    /// The name is empty, too long or has control characters.
    #[error("an API key's name has 1 to 100 characters, none of them control characters")]
    Name,
    /// The end lies in the past, or beyond the year 9999.
    #[error("an API key's end lies in the future, in a year up to 9999")]
    ExpiresAt,
    /// The tenant has a key with this name.
    #[error("there is an API key with this name: revoke it or choose another name")]
    NameTaken,
    /// The idempotency key has no usable form.
    #[error("an idempotency key has 1 to 255 characters")]
    KeyMalformed,
    /// The idempotency key was used for another request.
    #[error("this idempotency key was used for another request")]
    KeyReused,
    /// The catalog failed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

impl From<tokio_postgres::Error> for ApiKeyError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Catalog(error.into())
    }
}

impl From<KeyError> for ApiKeyError {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Malformed => Self::KeyMalformed,
            KeyError::Reused => Self::KeyReused,
            KeyError::Catalog(error) => Self::Catalog(error),
        }
    }
}

impl From<MemberError> for ApiKeyError {
    fn from(error: MemberError) -> Self {
        match error {
            MemberError::Catalog(error) => Self::Catalog(error),
            MemberError::NotFound => Self::NotFound,
            _ => Self::Forbidden(Forbidden),
        }
    }
}

impl Ops {
    /// Makes an API key; its text is given this once, and only its hash is stored.
    ///
    /// # Errors
    /// See [`ApiKeyError`].
    pub async fn create_api_key(
        &self,
        authority: &Authority,
        tenant: TenantId,
        request: &ApiKeyRequest,
    ) -> Result<(ApiKey, SecretString), ApiKeyError> {
        match self.create_api_key_once(authority, tenant, request, None).await? {
            (key, Some(text)) => Ok((key, text)),
            // Only a repeated request has no text, and without an idempotency key nothing is repeated.
            (_, None) => Err(ApiKeyError::KeyReused),
        }
    }

    /// The same. With an idempotency key, the same request again is the same request: it answers with the key that the
    /// first one made, without its text, of which only the hash is left.
    ///
    /// # Errors
    /// See [`ApiKeyError`].
    pub async fn create_api_key_once(
        &self,
        authority: &Authority,
        tenant: TenantId,
        request: &ApiKeyRequest,
        idempotency_key: Option<&str>,
    ) -> Result<(ApiKey, Option<SecretString>), ApiKeyError> {
        let sameness = json!(["api-key.create", tenant, request.name, request.role, request.expires_at]);
        let keyed = Keyed::new(authority, idempotency_key, &sameness)?;
        let acting = acting_role(authority, tenant)?;
        if !acting.may_manage(request.role) || is_api_key(authority) {
            return Err(Forbidden.into());
        }
        if !valid_name(&request.name) {
            return Err(ApiKeyError::Name);
        }
        if request.expires_at.is_some_and(|end| !valid_end(end)) {
            return Err(ApiKeyError::ExpiresAt);
        }
        let (text, hash) = secret::credential(CredentialKind::ApiKey);
        let new = NewApiKey {
            id: ApiKeyId::from_uuid(Uuid::now_v7()),
            tenant,
            name: &request.name,
            role: request.role,
            hash,
            created_by: &authority.actor(),
            expires_at: request.expires_at,
        };
        let mut client = self.catalog().client().await?;
        let transaction = client.transaction().await?;
        match membership::lock_tenant(&transaction, tenant).await? {
            None | Some(TenantState::Deleted | TenantState::Purged) => return Err(ApiKeyError::NotFound),
            Some(_) => {}
        }
        recheck(&transaction, authority, tenant, request.role).await?;
        if keyed.claim(&transaction).await?.is_some() {
            let key = api_key::find(&transaction, tenant, &request.name).await?;
            return Ok((key.ok_or(ApiKeyError::NotFound)?, None));
        }
        let key = api_key::insert(&transaction, &new)
            .await?
            .ok_or(ApiKeyError::NameTaken)?;
        keyed.record(&transaction, tenant, None).await?;
        change::announce(&transaction, Change::ApiKey(key.id)).await?;
        let act = Act {
            action: "api-key.create",
            tenant: Some(tenant),
            target: key.id.to_string(),
            before: None,
            after: Some(json!({ "name": key.name, "role": key.role, "expires_at": key.expires_at })),
        };
        audit::record(&transaction, authority, act).await?;
        transaction.commit().await?;
        Ok((key, Some(text)))
    }

    /// The API keys of a tenant, newest first, at most `limit`, after `after`.
    ///
    /// # Errors
    /// See [`ApiKeyError`].
    pub async fn list_api_keys(
        &self,
        authority: &Authority,
        tenant: TenantId,
        after: Option<(DateTime<Utc>, ApiKeyId)>,
        limit: i64,
    ) -> Result<Vec<ApiKey>, ApiKeyError> {
        acting_role(authority, tenant)?;
        let client = self.catalog().client().await?;
        Ok(api_key::list(&client, tenant, after, limit).await?)
    }

    /// Revokes an API key: it opens nothing within a second, in every process.
    ///
    /// # Errors
    /// See [`ApiKeyError`].
    pub async fn revoke_api_key(
        &self,
        authority: &Authority,
        tenant: TenantId,
        id: ApiKeyId,
    ) -> Result<(), ApiKeyError> {
        let acting = acting_role(authority, tenant)?;
        let mut client = self.catalog().client().await?;
        let transaction = client.transaction().await?;
        membership::lock_tenant(&transaction, tenant).await?;
        let key = api_key::get(&transaction, tenant, id)
            .await?
            .ok_or(ApiKeyError::NotFound)?;
        if !acting.may_manage(key.role) {
            return Err(Forbidden.into());
        }
        recheck(&transaction, authority, tenant, key.role).await?;
        if !api_key::delete(&transaction, tenant, id).await? {
            return Err(ApiKeyError::NotFound);
        }
        change::announce(&transaction, Change::ApiKey(id)).await?;
        let act = Act {
            action: "api-key.revoke",
            tenant: Some(tenant),
            target: id.to_string(),
            before: Some(json!({ "name": key.name, "role": key.role })),
            after: None,
        };
        audit::record(&transaction, authority, act).await?;
        transaction.commit().await?;
        Ok(())
    }
}

/// A leaked key must not be able to make itself successors.
fn is_api_key(authority: &Authority) -> bool {
    matches!(authority, Authority::Member { context, .. } if matches!(context.actor, Actor::ApiKey(_)))
}
