//! What is done some rows at a time, so that locks and write-ahead log stay small.

use tokio_postgres::{Client, types::ToSql};

use crate::sql_error::{Doing, SqlError};

/// Rows per transaction.
const BATCH: i32 = 5_000;

/// Runs a statement that changes so many rows at most, its last parameter, and tells how many it changed, until it changes fewer.
/// Tells how many in all.
pub(super) async fn in_batches(
    client: &Client,
    sql: &str,
    params: &[&(dyn ToSql + Sync)],
    doing: &'static str,
) -> Result<u64, SqlError> {
    let mut params = params.to_vec();
    params.push(&BATCH);
    let mut all = 0;
    loop {
        let some: i32 = client.query_one(sql, &params).await.doing(doing)?.get(0);
        all += u64::from(some.unsigned_abs());
        if some < BATCH {
            return Ok(all);
        }
    }
}
