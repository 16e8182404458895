//! What a stream's copy has brought: committed with the rows, so that a copy which is gone on with leaves them as they are.

use tokio_postgres::{GenericClient, Row};

use super::StreamName;
use crate::{
    sql_error::{Doing, SqlError},
    transfer::{Copied, key::LastKey},
};

/// What the target has of a copy, as of the stream's position at the time; what was changed in it since, the stream tells.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Kept {
    /// Tables that are there.
    pub whole: Vec<Copied>,
    /// Tables of which a part is there.
    pub begun: Vec<Begun>,
}

/// A table whose rows are there up to a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Begun {
    /// What came of it.
    pub copied: Copied,
    pub(in crate::transfer) last: LastKey,
}

impl Kept {
    /// How many rows came.
    pub fn rows(&self) -> u64 {
        let begun = self.begun.iter().map(|begun| &begun.copied);
        self.whole.iter().chain(begun).map(|copied| copied.rows).sum()
    }
}

/// Notes a table, in the transaction that holds its last rows.
pub(in crate::transfer) async fn note_copied(
    client: &impl GenericClient,
    name: &StreamName,
    copied: &Copied,
) -> Result<(), SqlError> {
    let (rows, bytes) = (whole(copied.rows), whole(copied.bytes));
    client
        .execute(
            "with begun as (delete from tenantry_move.begun where stream = $1 and table_name = $2)
             insert into tenantry_move.copied (stream, table_name, rows, bytes) values ($1, $2, $3, $4)
             on conflict (stream, table_name) do update set rows = excluded.rows, bytes = excluded.bytes",
            &[&name.text(), &copied.table, &rows, &bytes],
        )
        .await
        .doing("note that a table was copied")?;
    Ok(())
}

/// Notes up to which key a table is there, in the transaction that holds the rows behind the one before.
pub(in crate::transfer) async fn note_begun(
    client: &impl GenericClient,
    name: &StreamName,
    copied: &Copied,
    last: &LastKey,
) -> Result<(), SqlError> {
    let (rows, bytes) = (whole(copied.rows), whole(copied.bytes));
    client
        .execute(
            "insert into tenantry_move.begun (stream, table_name, key_columns, key_values, rows, bytes)
             values ($1, $2, $3, $4, $5, $6)
             on conflict (stream, table_name) do update
               set key_columns = excluded.key_columns, key_values = excluded.key_values, rows = excluded.rows, bytes = excluded.bytes",
            &[&name.text(), &copied.table, &last.columns, &last.values, &rows, &bytes],
        )
        .await
        .doing("note how far a table was copied")?;
    Ok(())
}

/// Reads what the target has of a stream's copy.
///
/// # Errors
///
/// Where the database can't be asked.
///
/// # Cancel safety
///
/// It only reads.
pub async fn read_kept(client: &impl GenericClient, name: &StreamName) -> Result<Kept, SqlError> {
    let whole = client
        .query(
            "select table_name, rows, bytes from tenantry_move.copied where stream = $1 order by 1",
            &[&name.text()],
        )
        .await
        .doing("read which tables were copied")?;
    let begun = client
        .query(
            "select table_name, rows, bytes, key_columns, key_values from tenantry_move.begun where stream = $1 order by 1",
            &[&name.text()],
        )
        .await
        .doing("read how far tables were copied")?;
    let part = |row: &Row| Begun {
        copied: copied(row),
        last: LastKey {
            columns: row.get(3),
            values: row.get(4),
        },
    };
    Ok(Kept {
        whole: whole.iter().map(copied).collect(),
        begun: begun.iter().map(part).collect(),
    })
}

fn copied(row: &Row) -> Copied {
    let figure = |number: i64| u64::try_from(number).unwrap_or_default();
    Copied {
        table: row.get(0),
        rows: figure(row.get(1)),
        bytes: figure(row.get(2)),
    }
}

/// Forgets all of it. A database that was made a target by an earlier release has none, or no parts of tables.
pub(super) async fn forget_copied(client: &impl GenericClient, name: &StreamName) -> Result<(), SqlError> {
    for table in ["tenantry_move.copied", "tenantry_move.begun"] {
        let row = client
            .query_one("select pg_catalog.to_regclass($1::text) is not null", &[&table])
            .await
            .doing("look for the tables of what was copied")?;
        if row.get(0) {
            client
                .execute(&format!("delete from {table} where stream = $1"), &[&name.text()])
                .await
                .doing("forget what was copied")?;
        }
    }
    Ok(())
}

fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
