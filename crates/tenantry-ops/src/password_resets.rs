//! A new password for whoever has forgotten the old one.
//!
//! An operator offers a reset and hands its token to the person, who sets the password: so nobody else ever knows it. The old
//! password and every log-in end with the offer, since a forgotten password may as well be a stolen one.

use std::time::Duration;

use chrono::{DateTime, Utc};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use tenantry_catalog::{
    CatalogError, account, change,
    password_reset::{self, NewPasswordReset},
    session::{self, SessionEnd},
};
use tenantry_core::{AccountId, Change, CredentialKind, Email, OperatorScope, seal::sha256};

use crate::{
    Authority, LoginError, Ops, Origin, Password, PasswordError,
    audit::{self, Act},
    login::record_own,
    secret,
};

/// How long a token is good: long enough to reach a person, too short to lie about.
const LIFE: Duration = Duration::from_secs(24 * 3600);

/// A reset that was offered.
#[derive(Clone, Debug)]
pub struct PasswordReset {
    /// Whose password.
    pub account: AccountId,
    /// The account's e-mail.
    pub email: String,
    /// What sets the new password, once; given this once.
    pub token: SecretString,
    /// Until when.
    pub expires_at: DateTime<Utc>,
}

/// Why no password was set.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PasswordResetError {
    /// The token is not good: never was, was used, or has expired; or the account is switched off.
    #[error("this token sets no password: ask for a new one")]
    BadToken,
    /// The new password breaks a rule.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// As a log-in.
    #[error(transparent)]
    Login(#[from] LoginError),
}

impl From<CatalogError> for PasswordResetError {
    fn from(error: CatalogError) -> Self {
        Self::Login(error.into())
    }
}

impl From<tokio_postgres::Error> for PasswordResetError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Login(error.into())
    }
}

impl Ops {
    /// Offers a person a new password: gives the token that sets it. The old password opens nothing from now on, and every
    /// log-in of the account ends. For whoever may make operator keys, since it opens whatever the account opens.
    ///
    /// # Errors
    /// See [`LoginError`]; [`LoginError::NoAccount`] when there is no such account or it is switched off.
    pub async fn offer_password_reset(
        &self,
        authority: &Authority,
        email: &Email,
    ) -> Result<PasswordReset, LoginError> {
        authority.require_operator(OperatorScope::Keys)?;
        let nobodys = self.hasher().hash(None).await?;
        let (token, hash) = secret::credential(CredentialKind::PasswordReset);
        let mut client = self.catalog().client().await?;
        let transaction = client.transaction().await?;
        let found = account::find_login(&transaction, email.as_str()).await?;
        let Some(account) = found.filter(|account| account.active).map(|account| account.id) else {
            return Err(LoginError::NoAccount);
        };
        let new = NewPasswordReset {
            account,
            hash: &hash,
            created_by: &authority.actor(),
            expires_at: Utc::now() + LIFE,
        };
        password_reset::offer(&transaction, &new).await?;
        account::reset_password(&transaction, account, &nobodys).await?;
        session::end_all(&transaction, account, None, SessionEnd::AccountChanged).await?;
        change::announce(&transaction, Change::Account(account)).await?;
        let act = Act {
            action: "account.offer-password-reset",
            tenant: None,
            target: account.to_string(),
            before: None,
            after: Some(json!({ "email": email, "expires_at": new.expires_at })),
        };
        audit::record(&transaction, authority, act).await?;
        let expires_at = new.expires_at;
        transaction.commit().await?;
        Ok(PasswordReset {
            account,
            email: email.as_str().to_owned(),
            token,
            expires_at,
        })
    }

    /// Sets the new password of whoever holds the token. It does so once; a password that breaks a rule uses nothing up.
    ///
    /// # Errors
    /// See [`PasswordResetError`].
    pub async fn reset_password(
        &self,
        token: &SecretString,
        new_password: String,
        origin: &Origin,
    ) -> Result<(), PasswordResetError> {
        let text = token.expose_secret();
        if !CredentialKind::PasswordReset.fits(text) {
            return Err(PasswordResetError::BadToken);
        }
        let hash = sha256(text.as_bytes());
        let client = self.catalog().client().await?;
        let found = password_reset::find(&client, &hash).await?;
        drop(client);
        let (account, email) = found.ok_or(PasswordResetError::BadToken)?;
        // It was checked when the account was made.
        let email: Email = email.parse().map_err(|_| PasswordResetError::BadToken)?;
        let password = Password::new(new_password, &email)?;
        let new_hash = self.hasher().hash(Some(&password)).await.map_err(LoginError::from)?;
        let mut client = self.catalog().client().await?;
        let transaction = client.transaction().await?;
        if !password_reset::use_up(&transaction, account, &hash).await? {
            return Err(PasswordResetError::BadToken);
        }
        account::reset_password(&transaction, account, &new_hash).await?;
        // Whoever got an operator's token meanwhile.
        session::end_all(&transaction, account, None, SessionEnd::AccountChanged).await?;
        change::announce(&transaction, Change::Account(account)).await?;
        record_own(
            &transaction,
            account,
            "account.reset-password",
            &account.to_string(),
            origin,
        )
        .await?;
        Ok(transaction.commit().await?)
    }
}
