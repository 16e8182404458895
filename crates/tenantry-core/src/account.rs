//! A person's e-mail and name, and the state of a membership.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::tenant::{checked_text, hides};

checked_text! {
    /// What a person is called: 0 to 200 characters, no control characters.
    PersonName, PersonNameError, "a person's name has at most 200 characters, none of them control characters",
    |text| text.chars().count() <= 200 && !text.chars().any(hides)
}

/// An e-mail address as a log-in name: lower-cased, at most 254 bytes, one `@` with something plausible on both sides.
///
/// Only mail delivery can tell whether an address exists; this refuses what certainly is none.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Email(String);

/// Why a text is no [`Email`].
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("an e-mail address has the form name@domain and at most 254 characters")]
pub struct EmailError;

impl Email {
    /// The address in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Email {
    type Err = EmailError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Some((local, domain)) = text.rsplit_once('@') else {
            return Err(EmailError);
        };
        let plain = |part: &str| !part.is_empty() && !part.chars().any(|c| c.is_whitespace() || c.is_control());
        let labels = domain.split('.').all(|label| !label.is_empty());
        let valid = text.len() <= 254
            && local.len() <= 64
            && plain(local)
            && plain(domain)
            && labels
            && domain.contains('.')
            && !local.contains(['@', '<', '>', '"', ',', ';']);
        if valid {
            Ok(Self(text.to_lowercase()))
        } else {
            Err(EmailError)
        }
    }
}

impl fmt::Display for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Email {
    type Error = EmailError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Email> for String {
    fn from(email: Email) -> Self {
        email.0
    }
}

/// The states of a membership. Stored; a membership that ended has no row.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MembershipStatus {
    /// The person had an account already and has not accepted yet: opens nothing.
    Invited,
    /// Opens the tenant with the membership's role.
    Active,
}

impl MembershipStatus {
    /// The word used in tables and routes.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Invited => "invited",
            Self::Active => "active",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_compared_in_lower_case() {
        assert_eq!(
            "Ann@Example.COM".parse::<Email>().expect("valid").as_str(),
            "ann@example.com"
        );
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for bad in [
            "",
            "ann",
            "@example.com",
            "ann@",
            "ann@example",
            "a b@example.com",
            "ann@example..com",
            "a@b\n.com",
        ] {
            assert_eq!(bad.parse::<Email>(), Err(EmailError), "{bad:?}");
        }
        assert_eq!(
            format!("{}@example.com", "a".repeat(10_000)).parse::<Email>(),
            Err(EmailError)
        );
    }
}
