//! How a tenant's rows are kept apart.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// How a tenant's rows are kept apart from other tenants' rows.
///
/// Exhaustive on purpose: a new isolation must be handled wherever one is chosen.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// In tables shared with other tenants, by row security.
    Shared,
    /// In a schema of its own.
    Schema,
    /// In a database of its own.
    Database,
}

/// The text names no isolation.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("isolation is one of shared, schema, database")]
pub struct UnknownIsolation;

impl Isolation {
    /// Every isolation, from the cheapest to the strongest.
    pub const ALL: [Self; 3] = [Self::Shared, Self::Schema, Self::Database];

    /// The word used in tables, routes and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::Schema => "schema",
            Self::Database => "database",
        }
    }
}

impl fmt::Display for Isolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Isolation {
    type Err = UnknownIsolation;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|isolation| isolation.as_str() == text)
            .ok_or(UnknownIsolation)
    }
}
