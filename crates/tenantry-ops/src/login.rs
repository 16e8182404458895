//! Log-in and what follows from it: refresh, switch, accept, log-out, who am I.

mod change_password;
mod invitation;
mod place;
mod tokens;

use std::{fmt, time::Duration};

use chrono::Utc;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use tenantry_catalog::{
    CatalogError, Db, account, change, login_budget,
    login_budget::Bucket,
    membership::{self, Place},
    session::{self, NewSession, SessionEnd},
};
use tenantry_core::{AccountId, Change, Email, OperatorScope, SessionId, TenantId, seal::sha256};
use uuid::Uuid;

use self::{
    place::{active, choose, only},
    tokens::Issue,
};
use crate::{
    Authority, Forbidden, Ops, Origin,
    audit::{self, Act},
    password::{Busy, Check},
};

/// A password far longer than any that is accepted is not worth a hash.
const PASSWORD_BYTES_MAX: usize = 1024;

/// An attempt to log in.
#[derive(Clone, Debug)]
pub struct Login<'a> {
    /// The e-mail, as it was typed.
    pub email: &'a str,
    /// The password, as it was typed.
    pub password: SecretString,
    /// The slug or id of the tenant to log in to.
    pub tenant: Option<&'a str>,
    /// From where.
    pub origin: Origin,
}

/// A verified log-in of a person: what `/v1/auth/*` acts for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AccountSession {
    /// The person.
    pub account: AccountId,
    /// The log-in.
    pub session: SessionId,
}

/// What a log-in, refresh or switch gives.
#[derive(Clone)]
pub struct LoggedIn {
    /// A token for `Authorization: Bearer`.
    pub access_token: SecretString,
    /// How long the access token lives.
    pub expires_in: Duration,
    /// A token that can be exchanged once for new ones.
    pub refresh_token: SecretString,
    /// The person.
    pub account: AccountId,
    /// The tenant that the access token names.
    pub tenant: Option<Place>,
    /// Every membership, invited ones too.
    pub memberships: Vec<Place>,
}

impl fmt::Debug for LoggedIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoggedIn")
            .field("account", &self.account)
            .field("tenant", &self.tenant.as_ref().map(|place| place.tenant))
            .finish_non_exhaustive()
    }
}

/// Who am I.
#[derive(Clone, Debug)]
pub struct Me {
    /// The account.
    pub account: account::Account,
    /// The tenant that the log-in's tokens name.
    pub tenant: Option<Place>,
    /// Every membership, invited ones too.
    pub memberships: Vec<Place>,
}

/// Why nobody was logged in.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoginError {
    /// The authority does not allow it.
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
    /// E-mail and password don't belong together, or there is no such account, or it is switched off.
    #[error("e-mail or password is wrong")]
    BadCredentials,
    /// Nobody with this e-mail can log in. For operators only, who may know.
    #[error("there is no active account with this e-mail: `tenantry member list <tenant>` shows whom there is")]
    NoAccount,
    /// The refresh token is not valid, or the log-in has ended.
    #[error("this log-in has ended: log in again")]
    Ended,
    /// The person has no active membership in the tenant, or there is no such tenant.
    #[error("you are no member of this tenant")]
    NotAMember,
    /// There is no invitation to accept.
    #[error("there is no invitation to this tenant for you")]
    NotInvited,
    /// The tenant is suspended.
    #[error("the tenant is suspended")]
    TenantSuspended,
    /// The tenant is being provisioned.
    #[error("the tenant is not ready yet")]
    TenantNotReady,
    /// Too many attempts.
    #[error("too many attempts: wait and try again")]
    RateLimited {
        /// How long to wait.
        retry_after: Duration,
    },
    /// The catalog failed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

impl From<Busy> for LoginError {
    fn from(Busy: Busy) -> Self {
        Self::RateLimited {
            retry_after: Duration::from_secs(1),
        }
    }
}

impl From<tokio_postgres::Error> for LoginError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Catalog(error.into())
    }
}

impl Ops {
    /// Checks e-mail and password and begins a log-in.
    ///
    /// An unknown e-mail is answered like a wrong password, and as late.
    ///
    /// # Errors
    /// See [`LoginError`].
    pub async fn login(&self, login: &Login<'_>) -> Result<LoggedIn, LoginError> {
        self.login_at(login, None).await
    }

    /// The same on the page of a tenant, which the host names: where the log-in names none and the person is an active member
    /// there, it is that one. For anybody else the page says nothing, and the log-in goes on as if it were no tenant's.
    ///
    /// # Errors
    /// See [`LoginError`].
    pub async fn login_at(&self, login: &Login<'_>, page: Option<TenantId>) -> Result<LoggedIn, LoginError> {
        // What is no e-mail has no account; it is looked up all the same, for the time that takes.
        let email = login
            .email
            .parse::<Email>()
            .map_or_else(|_| "@".to_owned(), |email| email.as_str().to_owned());
        let buckets = self.buckets(&email, &login.origin);
        let client = self.catalog().client().await?;
        let window = self.identity().login_budget.window;
        if let Some(retry_after) = login_budget::spend(&client, &buckets, window).await? {
            return Err(LoginError::RateLimited { retry_after });
        }
        let found = account::find_login(&client, &email).await?;
        // Given back meanwhile: a hash takes longer than all queries of a log-in.
        drop(client);
        let new_hash = match self.check(&login.password, found.as_ref()).await? {
            Check::Wrong => return Err(LoginError::BadCredentials),
            Check::Right => None,
            Check::RightRehashed(hash) => Some(hash),
        };
        let Some(account) = found.filter(|account| account.active).map(|account| account.id) else {
            return Err(LoginError::BadCredentials);
        };

        let mut client = self.catalog().client().await?;
        let transaction = client.transaction().await?;
        login_budget::refund(&transaction, &buckets).await?;
        if !account::note_login(&transaction, account, new_hash.as_deref()).await? {
            return Err(LoginError::BadCredentials);
        }
        membership::note_arrival(&transaction, account, None).await?;
        let memberships = membership::of_account(&transaction, account).await?;
        let here = page.and_then(|page| active(&memberships, page));
        let tenant = match (login.tenant, here) {
            (Some(named), _) => Some(choose(&memberships, named)?),
            (None, Some(here)) => Some(choose(&memberships, &here.slug)?),
            (None, None) => only(&memberships),
        };
        let new = NewSession {
            id: SessionId::from_uuid(Uuid::now_v7()),
            account,
            tenant: tenant.as_ref().map(|place| place.tenant),
            origin: &login.origin.address_text(),
            expires_at: Utc::now() + self.identity().session_ttl,
        };
        session::insert(&transaction, &new).await?;
        if session::end_oldest(&transaction, account, self.identity().sessions_max).await? > 0 {
            change::announce(&transaction, Change::Account(account)).await?;
        }
        let issue = Issue {
            session: AccountSession {
                account,
                session: new.id,
            },
            session_expires_at: new.expires_at,
            tenant,
            memberships,
        };
        let logged_in = self.issue(&transaction, issue).await?;
        transaction.commit().await?;
        Ok(logged_in)
    }

    /// Gives an access token of a person without a password, to try things with: for whoever may make operator keys.
    /// Audited. The log-in it belongs to ends with it.
    ///
    /// # Errors
    /// See [`LoginError`]; [`LoginError::NoAccount`] when there is no such account or it is switched off.
    pub async fn issue_token(
        &self,
        authority: &Authority,
        email: &Email,
        tenant: Option<&str>,
    ) -> Result<LoggedIn, LoginError> {
        authority.require_operator(OperatorScope::Keys)?;
        let mut client = self.catalog().client().await?;
        let transaction = client.transaction().await?;
        let found = account::find_login(&transaction, email.as_str()).await?;
        let Some(account) = found.filter(|account| account.active).map(|account| account.id) else {
            return Err(LoginError::NoAccount);
        };
        let memberships = membership::of_account(&transaction, account).await?;
        let tenant = match tenant {
            Some(named) => Some(choose(&memberships, named)?),
            None => only(&memberships),
        };
        let origin = authority.origin();
        let new = NewSession {
            id: SessionId::from_uuid(Uuid::now_v7()),
            account,
            tenant: tenant.as_ref().map(|place| place.tenant),
            origin: &origin.address_text(),
            expires_at: Utc::now() + self.identity().access_ttl,
        };
        session::insert(&transaction, &new).await?;
        let act = Act {
            action: "session.issue",
            tenant: new.tenant,
            target: account.to_string(),
            before: None,
            after: Some(json!({ "session": new.id })),
        };
        audit::record(&transaction, authority, act).await?;
        let issue = Issue {
            session: AccountSession {
                account,
                session: new.id,
            },
            session_expires_at: new.expires_at,
            tenant,
            memberships,
        };
        let logged_in = self.issue(&transaction, issue).await?;
        transaction.commit().await?;
        Ok(logged_in)
    }

    /// Ends a log-in: its tokens open nothing within a second, in every process.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn logout(&self, who: AccountSession) -> Result<(), LoginError> {
        let mut client = self.catalog().client().await?;
        let transaction = client.transaction().await?;
        session::end(&transaction, who.session, SessionEnd::Logout).await?;
        change::announce(&transaction, Change::Account(who.account)).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Who am I, and where.
    ///
    /// # Errors
    /// See [`LoginError`].
    pub async fn me(&self, account: AccountId, tenant: Option<TenantId>) -> Result<Me, LoginError> {
        let client = self.catalog().client().await?;
        let account = account::get(&client, account)
            .await?
            .filter(|account| account.active)
            .ok_or(LoginError::Ended)?;
        let memberships = membership::of_account(&client, account.id).await?;
        Ok(Me {
            tenant: tenant.and_then(|tenant| active(&memberships, tenant)),
            account,
            memberships,
        })
    }

    async fn check(&self, password: &SecretString, found: Option<&account::Login>) -> Result<Check, Busy> {
        if password.expose_secret().len() > PASSWORD_BYTES_MAX {
            return Ok(Check::Wrong);
        }
        let stored = found.map(|login| login.password_hash.as_str());
        self.hasher().check(password.clone(), stored).await
    }

    fn buckets(&self, email: &str, origin: &Origin) -> Vec<Bucket> {
        let budget = self.identity().login_budget;
        let address = origin.address_text();
        // Length-prefixed, so that no e-mail and address run into each other.
        let key = |kind: &str, email: &str, address: &str| {
            sha256(format!("{kind}:{}:{email}:{address}", email.len()).as_bytes())
        };
        let mut buckets = vec![Bucket {
            key: key("account", email, ""),
            limit: budget.per_account,
        }];
        if origin.address.is_some() {
            buckets.push(Bucket {
                key: key("address", "", &address),
                limit: budget.per_address,
            });
            buckets.push(Bucket {
                key: key("both", email, &address),
                limit: budget.per_account_and_address,
            });
        }
        buckets
    }
}

/// Writes down what happened to a person's account, in no tenant.
pub(crate) async fn record_own(
    db: &impl Db,
    account: AccountId,
    action: &str,
    target: &str,
    origin: &Origin,
) -> Result<(), CatalogError> {
    let entry = tenantry_catalog::audit_log::Entry {
        actor: &format!("account:{account}"),
        action,
        tenant: None,
        target,
        before: None,
        after: None,
        origin: &origin.address_text(),
        request_id: origin.request_id.as_deref().unwrap_or_default(),
    };
    tenantry_catalog::audit_log::append(db, &entry).await
}
