//! The claims of our own access tokens, shared by who issues and who verifies them.

use serde::{Deserialize, Serialize};

use crate::{AccountId, Role, SessionId, TenantId};

/// How far clocks of issuer and verifier may differ, in seconds.
pub const CLOCK_LEEWAY_S: u64 = 5;

/// The longest that any access token lives, in seconds: one day. A verifier refuses what claims more.
pub const ACCESS_TOKEN_LIFE_MAX_S: i64 = 24 * 3600;

/// The `typ` in the header of our access tokens (RFC 9068): a token made for anything else is none.
pub const ACCESS_TOKEN_TYPE: &str = "at+jwt";

/// The claims of an access token (RFC 9068 where it applies), signed with EdDSA.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AccessClaims {
    /// Issuer: the installation's issuer URL.
    pub iss: String,
    /// Audience: the installation's audience.
    pub aud: String,
    /// The account.
    pub sub: AccountId,
    /// The tenant the token opens; `null` when the account has several and named none.
    pub tenant: Option<TenantId>,
    /// The role in that tenant when the token was issued, for readers only: rights come from the membership.
    pub role: Option<Role>,
    /// The log-in the token stems from; ending it ends the token.
    pub sid: SessionId,
    /// The token's own id.
    pub jti: uuid::Uuid,
    /// Issued at, seconds since 1970.
    pub iat: i64,
    /// Not valid before, seconds since 1970.
    pub nbf: i64,
    /// Expires at, seconds since 1970.
    pub exp: i64,
}
