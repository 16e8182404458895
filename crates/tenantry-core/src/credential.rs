//! The credentials that we make ourselves: random texts that begin with what they are.

use std::fmt;

/// What a bearer credential claims to be, by its beginning.
///
/// The beginning makes a leaked one findable by scanners and spares a look-up of the wrong kind; it proves nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum CredentialKind {
    /// An operator's key.
    OperatorKey,
    /// An API key of a tenant.
    ApiKey,
    /// A refresh token; no bearer credential, refused where one is asked for.
    RefreshToken,
    /// What sets a new password once; no bearer credential either.
    PasswordReset,
}

/// How many random bytes each holds.
pub const CREDENTIAL_BYTES: usize = 32;

impl CredentialKind {
    /// What each begins with.
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::OperatorKey => "tno_",
            Self::ApiKey => "tna_",
            Self::RefreshToken => "tnr_",
            Self::PasswordReset => "tnp_",
        }
    }

    /// The kind that the text's beginning names.
    pub fn of(text: &str) -> Option<Self> {
        [Self::OperatorKey, Self::ApiKey, Self::RefreshToken, Self::PasswordReset]
            .into_iter()
            .find(|kind| text.starts_with(kind.prefix()))
    }

    /// Makes one from random bytes: the prefix and 64 hex digits.
    pub fn make(self, random: [u8; CREDENTIAL_BYTES]) -> String {
        struct Hex<'a>(&'a [u8]);
        impl fmt::Display for Hex<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
        format!("{}{}", self.prefix(), Hex(&random))
    }

    /// Whether the text can be one of this kind at all: asked before anything is looked up.
    pub fn fits(self, text: &str) -> bool {
        text.strip_prefix(self.prefix()).is_some_and(|digits| {
            digits.len() == 2 * CREDENTIAL_BYTES
                && digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_fits_its_own_kind_only() {
        let key = CredentialKind::ApiKey.make([7; 32]);
        assert!(CredentialKind::ApiKey.fits(&key));
        assert!(!CredentialKind::OperatorKey.fits(&key));
        assert_eq!(CredentialKind::of(&key), Some(CredentialKind::ApiKey));
        assert!(!CredentialKind::ApiKey.fits(&key[..key.len() - 1]));
        assert!(!CredentialKind::ApiKey.fits(&key.to_uppercase()));
        assert_eq!(CredentialKind::of("eyJhbGciOiJFZERTQSJ9"), None);
    }
}
