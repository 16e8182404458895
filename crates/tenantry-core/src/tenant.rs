//! A tenant's name, plan and state.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

macro_rules! checked_text {
    ($(#[$doc:meta])* $name:ident, $error:ident, $message:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        #[doc = concat!("Why a text is no [`", stringify!($name), "`].")]
        #[derive(Debug, PartialEq, Eq, thiserror::Error)]
        #[error($message)]
        pub struct $error;

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = $error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let valid: fn(&str) -> bool = $valid;
                if valid(text) { Ok(Self(text.to_owned())) } else { Err($error) }
            }
        }

        impl TryFrom<String> for $name {
            type Error = $error;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(text: $name) -> Self {
                text.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}
pub(crate) use checked_text;

/// Control characters, and those that turn the direction of what stands around them: with these a name can look like
/// another one (Unicode Technical Report 36, section 2.5).
pub(crate) fn hides(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

checked_text! {
    /// What people call the tenant: 1 to 200 characters, no control characters, not only blanks.
    TenantName, TenantNameError, "a name has 1 to 200 characters, none of them control characters",
    |text| (1..=200).contains(&text.chars().count()) && !text.trim().is_empty() && !text.chars().any(hides)
}

checked_text! {
    /// The plan a tenant pays for: 1 to 40 characters of `a-z`, `0-9`, `_` and `-`. `free` where nothing is said.
    Plan, PlanError, "a plan has 1 to 40 characters of a-z, 0-9, _ and -",
    |text| (1..=40).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-')
}

impl Default for Plan {
    fn default() -> Self {
        Self("free".to_owned())
    }
}

/// The states of a tenant. They are stored and survive restarts; [`TenantState::may_become`] holds every transition.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TenantState {
    /// Set when the tenant is created. Its placement is being made; nothing can reach it.
    Provisioning,
    /// Set by the last step of provisioning and by resume. Served.
    Active,
    /// Set by an operator. Every access is refused, the rows are kept.
    Suspended,
    /// Set by delete. Refused like a suspended one; recoverable until the retention time ends.
    Deleted,
    /// Set when purge begins. Rows and placement are being removed or are gone; only the record remains.
    Purged,
}

/// The text names no state.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("state is one of provisioning, active, suspended, deleted, purged")]
pub struct UnknownTenantState;

impl TenantState {
    /// Every state.
    pub const ALL: [Self; 5] = [
        Self::Provisioning,
        Self::Active,
        Self::Suspended,
        Self::Deleted,
        Self::Purged,
    ];

    /// The word used in tables, routes and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Provisioning => "provisioning",
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Deleted => "deleted",
            Self::Purged => "purged",
        }
    }

    /// Whether a tenant in this state may be set to `next`.
    pub const fn may_become(self, next: Self) -> bool {
        use TenantState::{Active, Deleted, Provisioning, Purged, Suspended};
        matches!(
            (self, next),
            (Provisioning, Active | Purged)
                | (Active, Suspended | Deleted)
                | (Suspended, Active | Deleted)
                | (Deleted, Active | Purged)
        )
    }
}

impl fmt::Display for TenantState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for TenantState {
    type Err = UnknownTenantState;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or(UnknownTenantState)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_purged_tenant_never_comes_back() {
        assert!(
            TenantState::ALL
                .iter()
                .all(|next| !TenantState::Purged.may_become(*next))
        );
    }

    #[test]
    fn names_and_plans_are_bounded() {
        assert!("Acme Ltd.".parse::<TenantName>().is_ok());
        assert_eq!("".parse::<TenantName>(), Err(TenantNameError));
        assert_eq!("a\u{0}b".parse::<TenantName>(), Err(TenantNameError));
        assert_eq!("Acme \u{202e}dtL".parse::<TenantName>(), Err(TenantNameError));
        assert!("شركة الأفق".parse::<TenantName>().is_ok());
        assert_eq!("x".repeat(10_000).parse::<TenantName>(), Err(TenantNameError));
        assert_eq!(Plan::default().as_str(), "free");
        assert_eq!("Gold!".parse::<Plan>(), Err(PlanError));
    }
}
