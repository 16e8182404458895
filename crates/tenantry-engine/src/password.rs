//! Passwords of login roles.

use postgres_protocol::password::scram_sha_256;
use secrecy::{ExposeSecret, SecretString};

/// A new password: 32 random bytes in hex.
pub fn generate() -> SecretString {
    hex::encode(rand::random::<[u8; 32]>()).into()
}

/// What the server stores for a password. Made here, so that the password itself is in no statement, no log and no list
/// of running queries.
pub(crate) fn verifier(password: &SecretString) -> String {
    scram_sha_256(password.expose_secret().as_bytes())
}
