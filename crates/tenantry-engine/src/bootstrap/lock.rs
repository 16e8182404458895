//! One at a time, for what is cluster-wide.

use std::time::Duration;

use tokio_postgres::GenericClient;

use super::BootstrapError;
use crate::sql_error::{Doing, SqlError};

/// Cluster-wide changes, taken in the maintenance database. "tenantry" in ASCII.
const SERVER_KEY: i64 = 0x7465_6e61_6e74_7279;
/// Changes of one database, taken in it. Another number: it may be the maintenance database as well.
const DATABASE_KEY: i64 = SERVER_KEY + 1;
/// A lock that is held longer than this is held by somebody who hangs.
const LOCK_TIMEOUT: &str = "set local lock_timeout = '60s'";
/// How often something that collided with another administrator's change is tried.
const ATTEMPTS: u32 = 12;

/// Holds the cluster-wide lock until the transaction ends.
pub(super) async fn server(transaction: &impl GenericClient) -> Result<(), SqlError> {
    lock(transaction, SERVER_KEY).await
}

/// Holds the database's lock until the transaction ends.
pub(super) async fn database(transaction: &impl GenericClient) -> Result<(), SqlError> {
    lock(transaction, DATABASE_KEY).await
}

async fn lock(transaction: &impl GenericClient, key: i64) -> Result<(), SqlError> {
    transaction.batch_execute(LOCK_TIMEOUT).await.doing("limit the wait")?;
    transaction
        .execute("select pg_catalog.pg_advisory_xact_lock($1)", &[&key])
        .await
        .doing("wait for another bootstrap to end")?;
    Ok(())
}

/// Runs something again while it collides with a change of the same shared catalog rows by somebody who does not hold our
/// lock: advisory locks are per database, so another installation with another maintenance database, or an operator in
/// psql, is not kept out.
pub(super) async fn again_on_collision<T, F>(mut attempt: impl FnMut() -> F) -> Result<T, BootstrapError>
where
    F: Future<Output = Result<T, BootstrapError>>,
{
    for number in 1..ATTEMPTS {
        match attempt().await {
            Err(BootstrapError::Sql(error)) if is_collision(&error) => {
                tracing::debug!(attempt = number, error = %error, "another administrator changed the same; trying again");
                tokio::time::sleep(Duration::from_millis(20 * u64::from(number))).await;
            }
            other => return other,
        }
    }
    attempt().await
}

fn is_collision(error: &SqlError) -> bool {
    match error.code() {
        // unique violation in a system catalog, duplicate object, serialization failure, deadlock
        Some("23505" | "42710" | "40001" | "40P01") => true,
        // "tuple concurrently updated" has no code of its own
        Some("XX000") => error
            .source
            .as_db_error()
            .is_some_and(|db| db.message().starts_with("tuple concurrently")),
        _ => false,
    }
}
