//! The tokens of a log-in: made, exchanged, made to name another tenant.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use secrecy::{ExposeSecret, SecretString};
use tenantry_catalog::{
    CatalogError, Db, change,
    membership::{self, Place},
    session::{self, SessionEnd},
};
use tenantry_core::{ACCESS_TOKEN_LIFE_MAX_S, AccessClaims, Change, CredentialKind, seal::sha256};
use uuid::Uuid;

use super::{
    AccountSession, LoggedIn, LoginError,
    place::{active, choose},
    record_own,
};
use crate::{Ops, Origin, secret};

/// What tokens are made for.
pub(super) struct Issue {
    pub(super) session: AccountSession,
    pub(super) session_expires_at: DateTime<Utc>,
    pub(super) tenant: Option<Place>,
    pub(super) memberships: Vec<Place>,
}

impl Ops {
    /// Exchanges a refresh token for new tokens. Each is good for one exchange; using it again ends the whole log-in.
    ///
    /// # Errors
    /// [`LoginError::Ended`] for whatever is no live refresh token.
    pub async fn refresh(&self, refresh_token: &SecretString, origin: &Origin) -> Result<LoggedIn, LoginError> {
        let text = refresh_token.expose_secret();
        if !CredentialKind::RefreshToken.fits(text) {
            return Err(LoginError::Ended);
        }
        let hash = sha256(text.as_bytes());
        let mut client = self.catalog().client().await?;
        let transaction = client.transaction().await?;
        let Some(refresh) = session::lock_refresh(&transaction, &hash).await? else {
            return Err(LoginError::Ended);
        };
        let who = AccountSession {
            account: refresh.account,
            session: refresh.session,
        };
        if refresh.used && !refresh.ended {
            end_stolen(&transaction, who, origin).await?;
            transaction.commit().await?;
            tracing::warn!(account.id = %who.account, session.id = %who.session, "a refresh token was used twice: log-in ended");
            return Err(LoginError::Ended);
        }
        if refresh.used || refresh.ended || refresh.expired || !refresh.account_active {
            return Err(LoginError::Ended);
        }
        session::use_up_refresh(&transaction, who.session).await?;
        let memberships = membership::of_account(&transaction, who.account).await?;
        // A membership that ended meanwhile leaves a token that names no tenant.
        let tenant = refresh.tenant.and_then(|tenant| active(&memberships, tenant));
        let issue = Issue {
            session: who,
            session_expires_at: refresh.expires_at,
            tenant,
            memberships,
        };
        let logged_in = self.issue(&transaction, issue).await?;
        transaction.commit().await?;
        Ok(logged_in)
    }

    /// Lets the log-in's tokens name another tenant.
    ///
    /// Refresh tokens of before stay good for one exchange, so that a client may keep its old one; whichever is used
    /// first uses up the others.
    ///
    /// # Errors
    /// See [`LoginError`].
    pub async fn switch(&self, who: AccountSession, tenant: &str) -> Result<LoggedIn, LoginError> {
        let mut client = self.catalog().client().await?;
        let transaction = client.transaction().await?;
        let Some((_, session_expires_at)) = session::lock_live(&transaction, who.session, who.account).await? else {
            return Err(LoginError::Ended);
        };
        let memberships = membership::of_account(&transaction, who.account).await?;
        let place = choose(&memberships, tenant)?;
        session::set_tenant(&transaction, who.session, Some(place.tenant)).await?;
        let issue = Issue {
            session: who,
            session_expires_at,
            tenant: Some(place),
            memberships,
        };
        let logged_in = self.issue(&transaction, issue).await?;
        transaction.commit().await?;
        Ok(logged_in)
    }

    /// Makes new tokens of a log-in.
    pub(super) async fn issue(&self, db: &impl Db, issue: Issue) -> Result<LoggedIn, LoginError> {
        let now = Utc::now();
        // No access token outlives its log-in.
        let ttl = TimeDelta::from_std(self.identity().access_ttl)
            .unwrap_or(TimeDelta::MAX)
            .min(TimeDelta::seconds(ACCESS_TOKEN_LIFE_MAX_S));
        let expires_at = (now + ttl).min(issue.session_expires_at);
        let claims = AccessClaims {
            iss: self.identity().issuer.clone(),
            aud: self.identity().audience.clone(),
            sub: issue.session.account,
            tenant: issue.tenant.as_ref().map(|place| place.tenant),
            role: issue.tenant.as_ref().map(|place| place.role),
            sid: issue.session.session,
            jti: Uuid::now_v7(),
            iat: now.timestamp(),
            nbf: now.timestamp(),
            exp: expires_at.timestamp(),
        };
        let access_token = self.sign(db, &claims).await?;
        let (refresh_token, hash) = secret::credential(CredentialKind::RefreshToken);
        let refresh_expires_at = (now + self.identity().refresh_ttl).min(issue.session_expires_at);
        session::insert_refresh(db, issue.session.session, &hash, refresh_expires_at).await?;
        Ok(LoggedIn {
            access_token: access_token.into(),
            expires_in: Duration::from_secs((expires_at - now).num_seconds().max(0).unsigned_abs()),
            refresh_token,
            account: issue.session.account,
            tenant: issue.tenant,
            memberships: issue.memberships,
        })
    }
}

/// Ends a log-in of which a refresh token was used twice.
async fn end_stolen(db: &impl Db, who: AccountSession, origin: &Origin) -> Result<(), CatalogError> {
    session::end(db, who.session, SessionEnd::RefreshReused).await?;
    change::announce(db, Change::Account(who.account)).await?;
    record_own(
        db,
        who.account,
        "session.refresh-reused",
        &who.session.to_string(),
        origin,
    )
    .await
}
