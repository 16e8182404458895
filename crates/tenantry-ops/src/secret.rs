//! Random texts and their hashes.

use aws_lc_rs::rand;
use secrecy::SecretString;
use tenantry_core::{AccountId, CREDENTIAL_BYTES, CredentialKind, seal::sha256};

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).expect("the operating system gives randomness");
    bytes
}

/// A text that nobody can guess.
pub(crate) fn random_text() -> String {
    hex::encode(random::<32>())
}

/// A new credential: its text, shown once, and the hash that is stored.
pub(crate) fn credential(kind: CredentialKind) -> (SecretString, [u8; 32]) {
    let text = kind.make(random::<CREDENTIAL_BYTES>());
    let hash = sha256(text.as_bytes());
    (text.into(), hash)
}

/// A new account's id: random, since the time in a uuid v7 would tell an inviter whether the account existed before.
pub(crate) fn account_id() -> AccountId {
    AccountId::from_uuid(uuid::Builder::from_random_bytes(random()).into_uuid())
}
