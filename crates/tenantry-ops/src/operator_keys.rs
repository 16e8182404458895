//! Operator keys: several, named, scoped, revocable; never a fixed one.

use chrono::{DateTime, Utc};
use secrecy::SecretString;
use serde_json::json;
use tenantry_catalog::{
    CatalogError, change,
    operator_key::{self, NewOperatorKey, OperatorKey},
};
use tenantry_core::{Change, CredentialKind, OperatorKeyId, OperatorScope, OperatorScopes};
use uuid::Uuid;

use crate::{
    Authority, Forbidden, Ops,
    api_keys::{valid_end, valid_name},
    audit::{self, Act},
    secret,
};

/// A key that shall be made.
#[derive(Clone, Debug)]
pub struct OperatorKeyRequest {
    /// Its name, unique among live keys: 1 to 100 characters, no control characters.
    pub name: String,
    /// What it may do.
    pub scopes: OperatorScopes,
    /// When it stops working.
    pub expires_at: Option<DateTime<Utc>>,
}

/// Why an operator key was not shown, made or revoked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OperatorKeyError {
    /// The authority does not allow it, or has not every scope that it wants to hand out.
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
    /// There is no such live key.
    #[error("there is no such operator key, or it is revoked: `tenantry token list` shows them all")]
    NotFound,
    /// The name is empty, too long or has control characters.
    #[error("an operator key's name has 1 to 100 characters, none of them control characters")]
    Name,
    /// A key that may do nothing.
    #[error("an operator key has at least one scope")]
    NoScope,
    /// The end lies in the past.
    #[error("an operator key's end lies in the future")]
    ExpiresAt,
    /// A live key has this name.
    #[error("there is an operator key with this name: revoke it or choose another name")]
    NameTaken,
    /// The catalog failed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

impl From<tokio_postgres::Error> for OperatorKeyError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Catalog(error.into())
    }
}

impl Ops {
    /// Makes an operator key; its text is given this once, and only its hash is stored.
    ///
    /// The first one is made by [`Authority::System`], at the command line.
    ///
    /// # Errors
    /// See [`OperatorKeyError`].
    pub async fn create_operator_key(
        &self,
        authority: &Authority,
        request: &OperatorKeyRequest,
    ) -> Result<(OperatorKey, SecretString), OperatorKeyError> {
        authority.require_operator(OperatorScope::Keys)?;
        let covered = match authority {
            Authority::Operator { operator, .. } => operator.scopes.covers(request.scopes),
            Authority::System { .. } | Authority::Member { .. } => true,
        };
        if !covered {
            return Err(Forbidden.into());
        }
        if !valid_name(&request.name) {
            return Err(OperatorKeyError::Name);
        }
        if request.scopes.is_empty() {
            return Err(OperatorKeyError::NoScope);
        }
        if request.expires_at.is_some_and(|end| !valid_end(end)) {
            return Err(OperatorKeyError::ExpiresAt);
        }
        let (text, hash) = secret::credential(CredentialKind::OperatorKey);
        let new = NewOperatorKey {
            id: OperatorKeyId::from_uuid(Uuid::now_v7()),
            name: &request.name,
            hash,
            scopes: request.scopes,
            created_by: &authority.actor(),
            expires_at: request.expires_at,
        };
        let mut client = self.catalog().client().await?;
        let transaction = client.transaction().await?;
        let key = operator_key::insert(&transaction, &new)
            .await?
            .ok_or(OperatorKeyError::NameTaken)?;
        change::announce(&transaction, Change::OperatorKey(key.id)).await?;
        let act = Act {
            action: "operator-key.create",
            tenant: None,
            target: key.id.to_string(),
            before: None,
            after: Some(json!({ "name": key.name, "scopes": key.scopes, "expires_at": key.expires_at })),
        };
        audit::record(&transaction, authority, act).await?;
        transaction.commit().await?;
        Ok((key, text))
    }

    /// Every operator key, revoked ones too, newest first.
    ///
    /// # Errors
    /// See [`OperatorKeyError`].
    pub async fn list_operator_keys(&self, authority: &Authority) -> Result<Vec<OperatorKey>, OperatorKeyError> {
        authority.require_operator(OperatorScope::Keys)?;
        let client = self.catalog().client().await?;
        Ok(operator_key::list(&client).await?)
    }

    /// Revokes an operator key: it opens nothing within a second, in every process.
    ///
    /// # Errors
    /// See [`OperatorKeyError`].
    pub async fn revoke_operator_key(&self, authority: &Authority, id: OperatorKeyId) -> Result<(), OperatorKeyError> {
        authority.require_operator(OperatorScope::Keys)?;
        let mut client = self.catalog().client().await?;
        let transaction = client.transaction().await?;
        let name = operator_key::revoke(&transaction, id)
            .await?
            .ok_or(OperatorKeyError::NotFound)?;
        change::announce(&transaction, Change::OperatorKey(id)).await?;
        let act = Act {
            action: "operator-key.revoke",
            tenant: None,
            target: id.to_string(),
            before: Some(json!({ "name": name })),
            after: None,
        };
        audit::record(&transaction, authority, act).await?;
        transaction.commit().await?;
        Ok(())
    }
}
