//! One id type for each kind of thing, so that a swap does not compile.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The text is no uuid.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("an id is a uuid, as lists show it: 32 hex digits in groups of 8-4-4-4-12")]
pub struct IdError;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// Wraps a uuid that is known to name such a thing; new ones are uuid v7.
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The uuid itself, to be bound as a parameter.
            pub const fn as_uuid(&self) -> &Uuid {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self).map_err(|_| IdError)
            }
        }
    )*};
}

ids! {
    /// A tenant. Never changes, unlike its slug.
    TenantId;
    /// A person's account, global to the installation.
    AccountId;
    /// A PostgreSQL cluster of the fleet.
    ServerId;
    /// A database that holds tenants' rows.
    TenantDatabaseId;
    /// A durable operation.
    OperationId;
    /// An operator's key.
    OperatorKeyId;
    /// An API key of a tenant.
    ApiKeyId;
    /// A log-in of an account, from which access tokens stem.
    SessionId;
    /// A job, within its tenant.
    JobId;
}

/// Names one installation of Tenantry: eight lower-case hex digits that stand in every role and database name it makes,
/// so that two installations can share a cluster and clean-up can tell its own objects.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InstallationId(String);

/// The text is not eight lower-case hex digits.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("an installation id is eight lower-case hex digits")]
pub struct InstallationIdError;

impl InstallationId {
    /// Makes an id from four random bytes.
    pub fn from_random(bytes: [u8; 4]) -> Self {
        Self(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// The eight digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InstallationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for InstallationId {
    type Err = InstallationIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let valid = text.len() == 8 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if valid {
            Ok(Self(text.to_owned()))
        } else {
            Err(InstallationIdError)
        }
    }
}

impl TryFrom<String> for InstallationId {
    type Error = InstallationIdError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<InstallationId> for String {
    fn from(id: InstallationId) -> Self {
        id.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn installation_id_takes_eight_hex_digits_only() {
        assert_eq!(InstallationId::from_random([0, 0xab, 1, 0xff]).as_str(), "00ab01ff");
        for bad in ["", "00ab01f", "00AB01FF", "00ab01fg", "00ab01ff0"] {
            assert_eq!(bad.parse::<InstallationId>(), Err(InstallationIdError), "{bad}");
        }
    }
}
