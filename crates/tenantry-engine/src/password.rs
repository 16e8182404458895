//! Passwords of login roles.

use postgres_protocol::password::scram_sha_256;
use secrecy::{ExposeSecret, SecretString};
use tenantry_sql::{Identifier, Literal};
use tokio_postgres::GenericClient;

use crate::sql_error::{Doing, SqlError};

/// A new password: 32 random bytes in hex.
pub fn generate() -> SecretString {
    hex::encode(rand::random::<[u8; 32]>()).into()
}

/// Gives a login role another password. Its sessions go on.
///
/// # Errors
///
/// Where the administrator may not, or there is no such role.
pub async fn set(client: &impl GenericClient, role: &Identifier, password: &SecretString) -> Result<(), SqlError> {
    let verifier = Literal::new(verifier(password)).expect("base64 holds no zero byte");
    client
        .batch_execute(&format!("alter role {role} password {verifier}"))
        .await
        .doing("give the application's role another password")
}

/// What the server stores for a password. Made here, so that the password itself is in no statement, no log and no list
/// of running queries.
pub(crate) fn verifier(password: &SecretString) -> String {
    scram_sha_256(password.expose_secret().as_bytes())
}
