//! How a tenant database proves that a context is genuine.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// How a tenant database proves that a context is genuine; bootstrap finds out which tier a server allows.
///
/// Exhaustive on purpose: a new tier must be handled wherever a session is bound.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// T2: the session is bound once, each call states the seal it expects.
    Sealed,
    /// T1: the administrator may not grant the carrier parameter, so the signed message is verified in each statement.
    Signed,
}

/// The text names no tier.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("tier is one of sealed, signed")]
pub struct UnknownTier;

impl Tier {
    /// The word used in tables, routes and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sealed => "sealed",
            Self::Signed => "signed",
        }
    }
}

/// What a tenant database protects against, as it is shown to operators: T4 names a database of one tenant's own that is
/// hardened, whatever proves its contexts.
pub fn protection(tier: Tier, own: bool, hardened: bool) -> &'static str {
    match (tier, own && hardened) {
        (Tier::Sealed, true) => "T4, own and hardened, sealed",
        (Tier::Signed, true) => "T4, own and hardened, signed",
        (Tier::Sealed, false) => "T2, sealed",
        (Tier::Signed, false) => "T1, signed",
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Tier {
    type Err = UnknownTier;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Sealed, Self::Signed]
            .into_iter()
            .find(|tier| tier.as_str() == text)
            .ok_or(UnknownTier)
    }
}
