//! How many jobs of a tenant database wait and are dead, whosever they are.

use std::time::Duration;

use tokio_postgres::Client;

use crate::sql_error::{Doing, SqlError};

/// No further than this is counted: more is as bad, and would cost more to find out than it tells.
const MOST: i32 = 100_000;

/// The jobs of all tenants of a database.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct JobBacklog {
    /// Due, and taken by no worker; up to 100 000.
    pub waiting: i64,
    /// For how long the first of these has been due; zero where none waits.
    pub oldest: Duration,
    /// Dead ones; up to 100 000.
    pub dead: i64,
}

/// Counts them by their indexes, within seconds or not at all. The connection is not to be used for anything else.
///
/// # Errors
///
/// Where a statement fails or takes too long.
pub async fn job_backlog(client: &Client) -> Result<JobBacklog, SqlError> {
    // A figure is worth no more load than this, on whatever database.
    client
        .batch_execute("set statement_timeout = '3s'")
        .await
        .doing("bound the time for counting jobs")?;
    let row = client
        .query_one(
            "select waiting, oldest_s, dead from tenantry_private.job_backlog($1)",
            &[&MOST],
        )
        .await
        .doing("count jobs that wait")?;
    Ok(JobBacklog {
        waiting: row.get(0),
        oldest: Duration::try_from_secs_f64(row.get(1)).unwrap_or_default(),
        dead: row.get(2),
    })
}
