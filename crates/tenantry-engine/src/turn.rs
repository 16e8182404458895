//! Taking turns on a server: work for one tenant or database is done under an advisory lock there, so that a runner that
//! was overtaken and its successor never work at the same time.

use std::time::Duration;

use tokio_postgres::{Client, Transaction};

use crate::sql_error::{Doing, SqlError};

/// Takes the lock for as long as the session lives, in the connected database.
///
/// # Errors
///
/// SQLSTATE 55P03 where another session still has it after `patience`.
pub async fn take(client: &Client, key: i64, patience: Duration) -> Result<(), SqlError> {
    client
        .batch_execute(&format!(
            "set lock_timeout = {}; select pg_catalog.pg_advisory_lock({key}); reset lock_timeout",
            patience.as_millis()
        ))
        .await
        .doing("wait for another runner's work to end")
}

/// Takes the lock until the transaction ends.
///
/// # Errors
///
/// As [`take`].
pub async fn take_in(transaction: &Transaction<'_>, key: i64, patience: Duration) -> Result<(), SqlError> {
    transaction
        .batch_execute(&format!(
            "set local lock_timeout = {}; select pg_catalog.pg_advisory_xact_lock({key})",
            patience.as_millis()
        ))
        .await
        .doing("wait for another runner's work to end")
}
