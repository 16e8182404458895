//! Random texts and their hashes.

use aws_lc_rs::rand;
use secrecy::SecretString;
use tenantry_core::{
    AccountId, CREDENTIAL_BYTES, CredentialKind, OperationId, ServerId, TenantDatabaseId, TenantId,
    seal::{Key, sha256},
};

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

/// A new tenant's id: ordered by time.
pub(crate) fn tenant_id() -> TenantId {
    TenantId::from_uuid(uuid::Uuid::now_v7())
}

/// A new operation's id.
pub(crate) fn operation_id() -> OperationId {
    OperationId::from_uuid(uuid::Uuid::now_v7())
}

/// A new server's id.
pub(crate) fn server_id() -> ServerId {
    ServerId::from_uuid(uuid::Uuid::now_v7())
}

/// A new tenant database's id.
pub(crate) fn tenant_database_id() -> TenantDatabaseId {
    TenantDatabaseId::from_uuid(uuid::Uuid::now_v7())
}

/// The first key of a tenant database's seal.
pub(crate) fn seal_key() -> Key {
    Key::new(1, random())
}
