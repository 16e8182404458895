//! What the catalog tells every process when something changed.

use std::{fmt, str::FromStr};

use crate::{AccountId, ApiKeyId, OperatorKeyId, TenantId};

/// One change that caches must drop: the payload of the catalog's notification and of its change log.
///
/// As text: the kind, a colon and the id, for example `tenant:0190…`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Change {
    /// State, slug, plan, version or placement of a tenant.
    Tenant(TenantId),
    /// A membership, the activity or the credentials of an account.
    Account(AccountId),
    /// An API key was made, revoked or has changed.
    ApiKey(ApiKeyId),
    /// An operator key was made or revoked.
    OperatorKey(OperatorKeyId),
    /// A key that signs access tokens was made, retired or removed.
    SigningKeys,
    /// Addresses or credentials of servers and tenant databases.
    Servers,
    /// The connections to a server are divided anew.
    Shares,
    /// What plans give.
    Plans,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tenant(id) => write!(f, "tenant:{id}"),
            Self::Account(id) => write!(f, "account:{id}"),
            Self::ApiKey(id) => write!(f, "api-key:{id}"),
            Self::OperatorKey(id) => write!(f, "operator-key:{id}"),
            Self::SigningKeys => f.write_str("signing-keys:"),
            Self::Servers => f.write_str("servers:"),
            Self::Shares => f.write_str("shares:"),
            Self::Plans => f.write_str("plans:"),
        }
    }
}

/// The text names no change this version knows; a reader then drops everything it has cached.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown change")]
pub struct UnknownChange;

impl FromStr for Change {
    type Err = UnknownChange;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (kind, id) = text.split_once(':').ok_or(UnknownChange)?;
        let unknown = |_| UnknownChange;
        match kind {
            "tenant" => id.parse().map(Self::Tenant).map_err(unknown),
            "account" => id.parse().map(Self::Account).map_err(unknown),
            "api-key" => id.parse().map(Self::ApiKey).map_err(unknown),
            "operator-key" => id.parse().map(Self::OperatorKey).map_err(unknown),
            "signing-keys" => Ok(Self::SigningKeys),
            "servers" => Ok(Self::Servers),
            "shares" => Ok(Self::Shares),
            "plans" => Ok(Self::Plans),
            _ => Err(UnknownChange),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_survives_its_text() {
        let uuid = uuid::Uuid::from_u128(7);
        for change in [
            Change::Tenant(TenantId::from_uuid(uuid)),
            Change::Account(AccountId::from_uuid(uuid)),
            Change::Servers,
            Change::Shares,
            Change::Plans,
        ] {
            assert_eq!(change.to_string().parse(), Ok(change));
        }
        assert_eq!("moon:1".parse::<Change>(), Err(UnknownChange));
    }
}
