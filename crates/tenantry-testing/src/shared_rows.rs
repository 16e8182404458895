//! Rows that every database of a server shares.

use std::time::Duration;

use tokio_postgres::{Client, Error};

/// How often a change that collided is tried, each time a little later.
const ATTEMPTS: u32 = 20;

/// Runs SQL that changes rows which all tests on a server share: what may be set on a parameter is one row for all roles, and
/// where two transactions change it at once the second fails with "tuple concurrently updated", which has no code of its own.
///
/// The SQL is run as a whole again, so it must leave nothing behind when it fails: it is one implicit transaction.
///
/// # Errors
///
/// What PostgreSQL answers, and a collision that does not end.
pub async fn change_shared_rows(client: &Client, sql: &str) -> Result<(), Error> {
    for number in 1..ATTEMPTS {
        match client.batch_execute(sql).await {
            Err(error) if is_collision(&error) => {
                tokio::time::sleep(Duration::from_millis(10 * u64::from(number))).await;
            }
            other => return other,
        }
    }
    client.batch_execute(sql).await
}

fn is_collision(error: &Error) -> bool {
    error
        .as_db_error()
        .is_some_and(|error| error.message().starts_with("tuple concurrently"))
}
