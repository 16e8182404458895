//! Taking turns on a server: work for one tenant or database is done under an advisory lock there, so that a runner that
//! was overtaken and its successor never work at the same time.
//!
//! Whoever takes a turn has the right to it already, by a lease. A session that still holds the lock after a while belongs
//! to a runner that has lost its lease and does not know: a process that was stopped, a machine that sleeps. It is ended,
//! and what it had not committed is rolled back.

use std::time::Duration;

use tokio_postgres::{Client, error::SqlState};

use crate::sql_error::{Doing, SqlError};

const WAITING: &str = "wait for another runner's work to end";

/// Takes the lock for as long as the session lives, in the connected database. Sessions that hold it longer than
/// `patience` are ended.
///
/// # Errors
///
/// SQLSTATE 55P03 where even then it can't be had within `patience`.
pub async fn take(client: &Client, key: i64, patience: Duration) -> Result<(), SqlError> {
    match try_take(client, key, patience).await {
        Err(error) if is_taken(&error) => {
            evict(client, key).await?;
            try_take(client, key, patience).await
        }
        outcome => outcome,
    }
}

async fn try_take(client: &Client, key: i64, patience: Duration) -> Result<(), SqlError> {
    client
        .batch_execute(&format!(
            "set lock_timeout = {}; select pg_catalog.pg_advisory_lock({key}); reset lock_timeout",
            patience.as_millis()
        ))
        .await
        .doing(WAITING)
}

/// Begins a transaction that holds the lock until [`commit`]. Sessions that hold it longer than `patience` are ended. After
/// any error the connection has to be dropped.
///
/// # Errors
///
/// As [`take`].
pub async fn begin(client: &Client, key: i64, patience: Duration) -> Result<(), SqlError> {
    match try_begin(client, key, patience).await {
        Err(error) if is_taken(&error) => {
            client.batch_execute("rollback").await.doing("roll back")?;
            evict(client, key).await?;
            try_begin(client, key, patience).await
        }
        outcome => outcome,
    }
}

async fn try_begin(client: &Client, key: i64, patience: Duration) -> Result<(), SqlError> {
    client
        .batch_execute(&format!(
            "begin; set local lock_timeout = {}; select pg_catalog.pg_advisory_xact_lock({key})",
            patience.as_millis()
        ))
        .await
        .doing(WAITING)
}

/// Commits what was done since [`begin`].
///
/// # Errors
///
/// Where the commit fails; the connection has to be dropped then.
pub async fn commit(client: &Client) -> Result<(), SqlError> {
    client.batch_execute("commit").await.doing("commit")
}

/// The same without waiting for the disk: for a transaction that a later commit in the same [log](crate::log) stands behind, which is waited
/// for before anything relies on either.
///
/// # Errors
///
/// Where the commit fails; the connection has to be dropped then.
pub async fn commit_lightly(client: &Client) -> Result<(), SqlError> {
    client
        .batch_execute("set local synchronous_commit = off; commit")
        .await
        .doing("commit")
}

fn is_taken(error: &SqlError) -> bool {
    error.code() == Some(SqlState::LOCK_NOT_AVAILABLE.code())
}

/// Ends the sessions that hold the lock in the connected database.
async fn evict(client: &Client, key: i64) -> Result<(), SqlError> {
    let rows = client
        .query(
            "select pid, pg_catalog.pg_terminate_backend(pid)
               from pg_catalog.pg_locks
              where locktype = 'advisory' and granted and objsubid = 1
                and database = (select oid from pg_catalog.pg_database where datname = pg_catalog.current_database())
                and (classid::int8 << 32) | objid::int8 = $1
                and pid <> pg_catalog.pg_backend_pid()",
            &[&key],
        )
        .await
        .doing("end the session of a runner that was overtaken")?;
    for row in &rows {
        let pid: i32 = row.get(0);
        tracing::warn!(pid, "ended the session of a runner that was overtaken");
    }
    Ok(())
}
