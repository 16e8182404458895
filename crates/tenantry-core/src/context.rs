//! For whom work is done.

use crate::{AccountId, ApiKeyId, Role, TenantId};

/// Who acts in a tenant.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Actor {
    /// A person with a membership.
    Account(AccountId),
    /// A program with an API key of the tenant.
    ApiKey(ApiKeyId),
    /// The application itself, for the reason given; audited.
    System {
        /// Why the application acts by itself, for the audit log.
        reason: String,
    },
}

/// Tenant, actor and role of the work being done: never a bare id.
///
/// Holding a `Context` proves nothing by itself; scoped access is given out by the library's resolver, which makes
/// contexts from verified credentials and checked memberships only.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Context {
    /// Whose rows.
    pub tenant: TenantId,
    /// Who acts.
    pub actor: Actor,
    /// With which rights in the tenant.
    pub role: Role,
}

impl Context {
    /// The account that acts, if a person does.
    pub fn account(&self) -> Option<AccountId> {
        match self.actor {
            Actor::Account(account) => Some(account),
            Actor::ApiKey(_) | Actor::System { .. } => None,
        }
    }

    /// The API key that acts, if a program does with one.
    pub fn api_key(&self) -> Option<ApiKeyId> {
        match self.actor {
            Actor::ApiKey(key) => Some(key),
            Actor::Account(_) | Actor::System { .. } => None,
        }
    }
}
