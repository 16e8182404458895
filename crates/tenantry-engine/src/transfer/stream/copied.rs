//! Which tables a stream's copy has brought: committed with their rows, so that a copy which is gone on with leaves them as they are.

use tokio_postgres::GenericClient;

use super::StreamName;
use crate::{
    sql_error::{Doing, SqlError},
    transfer::Copied,
};

/// Notes a table, in the transaction that holds its rows.
pub(in crate::transfer) async fn note_copied(
    client: &impl GenericClient,
    name: &StreamName,
    copied: &Copied,
) -> Result<(), SqlError> {
    let (rows, bytes) = (whole(copied.rows), whole(copied.bytes));
    client
        .execute(
            "insert into tenantry_move.copied (stream, table_name, rows, bytes) values ($1, $2, $3, $4)
             on conflict (stream, table_name) do update set rows = excluded.rows, bytes = excluded.bytes",
            &[&name.text(), &copied.table, &rows, &bytes],
        )
        .await
        .doing("note that a table was copied")?;
    Ok(())
}

/// The tables whose rows the target has, as of the stream's position at the time; what was changed in them since, the stream tells.
///
/// # Errors
///
/// Where the database can't be asked.
///
/// # Cancel safety
///
/// It only reads.
pub async fn read_copied(client: &impl GenericClient, name: &StreamName) -> Result<Vec<Copied>, SqlError> {
    let rows = client
        .query(
            "select table_name, rows, bytes from tenantry_move.copied where stream = $1 order by 1",
            &[&name.text()],
        )
        .await
        .doing("read which tables were copied")?;
    let figure = |number: i64| u64::try_from(number).unwrap_or_default();
    Ok(rows
        .iter()
        .map(|row| Copied {
            table: row.get(0),
            rows: figure(row.get(1)),
            bytes: figure(row.get(2)),
        })
        .collect())
}

/// Forgets all of them. A database that was made a target by an earlier release has none.
pub(super) async fn forget_copied(client: &impl GenericClient, name: &StreamName) -> Result<(), SqlError> {
    let row = client
        .query_one("select pg_catalog.to_regclass('tenantry_move.copied') is not null", &[])
        .await
        .doing("look for the table of copied tables")?;
    if row.get(0) {
        client
            .execute("delete from tenantry_move.copied where stream = $1", &[&name.text()])
            .await
            .doing("forget which tables were copied")?;
    }
    Ok(())
}

fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
