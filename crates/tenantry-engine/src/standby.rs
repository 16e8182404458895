//! How far a server's log is, and how far a standby of it has come.

use tenantry_core::end_of_log;
use tokio_postgres::Client;

use crate::sql_error::{Doing, SqlError};

/// A position in a server's log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Position(u64);

impl Position {
    /// How many bytes of the log this one is behind the other.
    pub fn behind(self, other: Self) -> u64 {
        other.0.saturating_sub(self.0)
    }
}

/// Where the log of a primary ends: behind everything that was committed before.
///
/// # Errors
///
/// Where the server can't be asked, or is a standby.
pub async fn written(client: &Client) -> Result<Position, SqlError> {
    let row = client
        .query_one(
            "select (pg_catalog.pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::int8",
            &[],
        )
        .await
        .doing("ask how far the server's log is")?;
    Ok(Position(end_of_log(unsigned(row.get(0)))))
}

/// Up to where a standby shows its primary's log; `None` where it is none.
///
/// # Errors
///
/// Where the server can't be asked.
pub async fn replayed(client: &Client) -> Result<Option<Position>, SqlError> {
    let row = client
        .query_one(
            "select case when pg_catalog.pg_is_in_recovery()
                         then (pg_catalog.pg_last_wal_replay_lsn() - '0/0'::pg_lsn)::int8 end",
            &[],
        )
        .await
        .doing("ask how far the standby is")?;
    Ok(row
        .get::<_, Option<i64>>(0)
        .map(|position| Position(unsigned(position))))
}

fn unsigned(position: i64) -> u64 {
    u64::try_from(position).unwrap_or(0)
}
