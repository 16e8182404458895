//! What an installation decides about identity.

use std::time::Duration;

/// Issuer, audience and life-times of tokens, and how many log-ins may fail.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct IdentityConfig {
    /// The `iss` of access tokens: the installation's URL.
    pub issuer: String,
    /// The `aud` of access tokens.
    pub audience: String,
    /// How long an access token lives. Revocation does not wait for it.
    pub access_ttl: Duration,
    /// How long a refresh token may lie unused.
    pub refresh_ttl: Duration,
    /// How long a log-in lasts, however often it is refreshed.
    pub session_ttl: Duration,
    /// How many log-ins an account may have at once; a further one ends the oldest.
    pub sessions_max: i64,
    /// How many log-ins may fail.
    pub login_budget: LoginBudget,
}

/// How many log-ins may fail in a window before further ones are refused unchecked.
///
/// No account is ever locked for everybody by a few failures: that would let strangers lock people out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LoginBudget {
    /// The window.
    pub window: Duration,
    /// For one e-mail from one address.
    pub per_account_and_address: i32,
    /// For one e-mail from everywhere.
    pub per_account: i32,
    /// For all e-mails from one address.
    pub per_address: i32,
}

impl Default for LoginBudget {
    /// 100 failures an hour on one account are what the OWASP verification standard allows at most.
    fn default() -> Self {
        Self {
            window: Duration::from_secs(3600),
            per_account_and_address: 100,
            per_account: 1000,
            per_address: 1000,
        }
    }
}

impl IdentityConfig {
    /// Access tokens for ten minutes, log-ins for thirty days of which at most fourteen unused.
    pub fn new(issuer: impl Into<String>, audience: impl Into<String>) -> Self {
        const DAY: Duration = Duration::from_secs(24 * 3600);
        Self {
            issuer: issuer.into(),
            audience: audience.into(),
            access_ttl: Duration::from_secs(600),
            refresh_ttl: 14 * DAY,
            session_ttl: 30 * DAY,
            sessions_max: 50,
            login_budget: LoginBudget::default(),
        }
    }
}
