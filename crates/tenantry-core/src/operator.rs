//! Who administers the fleet, and how far.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::OperatorKeyId;

/// One thing that an operator key may be allowed to do.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
#[repr(u8)]
pub enum OperatorScope {
    /// Reads everything but keys' lists: tenants, members, operations, servers, health, the audit log.
    Read = 1,
    /// Creates, changes, suspends, deletes and moves tenants.
    Tenants = 2,
    /// Adds, changes and removes members and tenants' API keys.
    Members = 4,
    /// Registers and changes servers.
    Servers = 8,
    /// Applies migrations.
    Migrations = 16,
    /// Makes and revokes operator keys, rotates signing keys.
    Keys = 32,
}

impl OperatorScope {
    /// Every scope.
    pub const ALL: [Self; 6] = [
        Self::Read,
        Self::Tenants,
        Self::Members,
        Self::Servers,
        Self::Migrations,
        Self::Keys,
    ];

    /// The word used in tables, routes and commands.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Tenants => "tenants",
            Self::Members => "members",
            Self::Servers => "servers",
            Self::Migrations => "migrations",
            Self::Keys => "keys",
        }
    }
}

impl fmt::Display for OperatorScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no scope.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a scope is one of read, tenants, members, servers, migrations, keys")]
pub struct UnknownOperatorScope;

impl FromStr for OperatorScope {
    type Err = UnknownOperatorScope;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|scope| scope.as_str() == text)
            .ok_or(UnknownOperatorScope)
    }
}

/// What an operator key may do: a set of scopes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(from = "Vec<OperatorScope>", into = "Vec<OperatorScope>")]
pub struct OperatorScopes(u8);

impl OperatorScopes {
    /// Every scope there is.
    pub fn all() -> Self {
        Self::from_iter(OperatorScope::ALL)
    }

    /// Whether the set has the scope.
    pub fn allows(self, scope: OperatorScope) -> bool {
        self.0 & scope as u8 != 0
    }

    /// Whether the set has every scope of `other`: nobody hands out more than they have.
    pub fn covers(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether nothing is allowed at all.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The scopes, in the order of their declaration.
    pub fn iter(self) -> impl Iterator<Item = OperatorScope> {
        OperatorScope::ALL.into_iter().filter(move |scope| self.allows(*scope))
    }
}

impl FromIterator<OperatorScope> for OperatorScopes {
    fn from_iter<I: IntoIterator<Item = OperatorScope>>(scopes: I) -> Self {
        Self(scopes.into_iter().fold(0, |set, scope| set | scope as u8))
    }
}

impl From<Vec<OperatorScope>> for OperatorScopes {
    fn from(scopes: Vec<OperatorScope>) -> Self {
        scopes.into_iter().collect()
    }
}

impl From<OperatorScopes> for Vec<OperatorScope> {
    fn from(scopes: OperatorScopes) -> Self {
        scopes.iter().collect()
    }
}

/// An operator, as known by a verified key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Operator {
    /// The key that was shown.
    pub key: OperatorKeyId,
    /// The key's name.
    pub name: String,
    /// What it may do.
    pub scopes: OperatorScopes,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_allows_what_it_was_made_of_and_nothing_else() {
        let set: OperatorScopes = [OperatorScope::Read, OperatorScope::Keys].into_iter().collect();
        let allowed: Vec<_> = set.iter().collect();
        assert_eq!(allowed, [OperatorScope::Read, OperatorScope::Keys]);
        assert!(OperatorScopes::all().covers(set));
        assert!(!set.covers(OperatorScopes::all()));
    }

    #[test]
    fn scopes_survive_their_text() {
        for scope in OperatorScope::ALL {
            assert_eq!(scope.as_str().parse(), Ok(scope));
        }
        assert_eq!("root".parse::<OperatorScope>(), Err(UnknownOperatorScope));
    }
}
