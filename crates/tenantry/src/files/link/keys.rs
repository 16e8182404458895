//! The keys that sign links.

use std::fmt;

use aws_lc_rs::hmac::{self, HMAC_SHA256, Key};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use secrecy::{ExposeSecret, SecretString};

/// A key that signs links: 32 random bytes, and a number that no other key of the installation has. Never printed.
#[derive(Clone)]
pub struct LinkKey {
    number: u8,
    key: Key,
}

/// Why a text is no key.
#[derive(Debug, thiserror::Error)]
#[error("a key of links is the base64 of 32 random bytes (44 characters)")]
pub struct LinkKeyError;

/// The key that signs, and those before it, whose links are believed until they are taken away: give a new one first to
/// every process as a former key, then let it sign, and take the old one away when its last link has ended.
#[derive(Clone, Debug)]
pub struct LinkKeys {
    current: LinkKey,
    former: Vec<LinkKey>,
}

impl LinkKey {
    /// A key from its bytes.
    pub fn from_bytes(number: u8, bytes: &[u8; 32]) -> Self {
        Self {
            number,
            key: Key::new(HMAC_SHA256, bytes),
        }
    }

    /// A key from its base64.
    ///
    /// # Errors
    ///
    /// For anything but 32 bytes.
    pub fn parse(number: u8, text: &SecretString) -> Result<Self, LinkKeyError> {
        let bytes = STANDARD.decode(text.expose_secret().trim()).map_err(|_| LinkKeyError)?;
        let bytes: [u8; 32] = bytes.try_into().map_err(|_| LinkKeyError)?;
        Ok(Self::from_bytes(number, &bytes))
    }
}

impl fmt::Debug for LinkKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LinkKey({}, ..)", self.number)
    }
}

impl LinkKeys {
    /// Keys of which the first signs.
    pub fn new(current: LinkKey, former: Vec<LinkKey>) -> Self {
        Self { current, former }
    }

    /// The number of the key that signs.
    pub(super) fn current(&self) -> u8 {
        self.current.number
    }

    pub(super) fn sign(&self, message: &[u8]) -> Vec<u8> {
        hmac::sign(&self.current.key, message).as_ref().to_vec()
    }

    /// Whether the key of this number signed it; takes as long for a wrong signature as for the right one.
    pub(super) fn is_signed(&self, number: u8, message: &[u8], signature: &[u8]) -> bool {
        std::iter::once(&self.current)
            .chain(&self.former)
            .find(|key| key.number == number)
            .is_some_and(|key| hmac::verify(&key.key, message, signature).is_ok())
    }
}
