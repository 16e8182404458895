//! Who was recognised.

use tenantry_core::{AccountId, ApiKeyId, Operator, Role, SessionId, TenantId};

/// Who showed a valid credential. Made by the resolver only.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Identity {
    /// An operator, with an operator key.
    Operator(Operator),
    /// A person, with an access token.
    Account(AccountIdentity),
    /// A program, with a tenant's API key.
    ApiKey(ApiKeyIdentity),
}

/// A person with a valid access token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct AccountIdentity {
    /// The account.
    pub account: AccountId,
    /// The log-in, unless the token is another issuer's.
    pub session: Option<SessionId>,
    /// The tenant that the token names.
    pub tenant: Option<TenantId>,
}

/// A program with a valid API key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct ApiKeyIdentity {
    /// The key.
    pub key: ApiKeyId,
    /// Its tenant.
    pub tenant: TenantId,
    /// Its role there.
    pub role: Role,
}

/// A tenant as a public page may show it, for example on its log-in page. Opens nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct PublicTenant {
    /// Its id.
    pub id: TenantId,
    /// Its label.
    pub slug: String,
    /// Its name.
    pub name: String,
}
