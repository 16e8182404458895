//! The bytes on the server's disk: rows that no query sees any more are in them as long as nothing was written over them.

use tokio_postgres::Client;

use super::Sought;
use crate::sql_error::{Doing, SqlError};

/// A relation whose files hold something of the tenant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FileTrace {
    /// The table or index, quoted, with its schema.
    pub relation: String,
    /// The table that it belongs to: itself, or the one that it is an index of or stores long values of.
    pub table: String,
    /// How many pieces of its files hold something.
    pub pieces: i64,
}

/// How much is read at once.
const PIECE: i64 = 8 << 20;
/// What is sought may lie across two pieces; it is no longer than this.
const OVERLAP: i64 = 4096;

/// Reads the files of every table and index of the connected database, and of the server's shared catalogs, for the tenant's id as
/// it is stored and for the texts. Needs a superuser, and reads as much as the database is large.
///
/// What PostgreSQL compressed or wrote elsewhere (its log, temporary files, copies) is not seen.
///
/// # Errors
///
/// Where a statement fails: the role may not read files.
///
/// # Cancel safety
///
/// It only reads.
pub async fn read_files(client: &Client, sought: &Sought<'_>) -> Result<(usize, Vec<FileTrace>), SqlError> {
    // What is in memory only is on the disk then.
    client
        .batch_execute("checkpoint")
        .await
        .doing("write everything to the disk")?;
    let segment: i64 = client
        .query_one(
            "select setting::int8 * 8192 from pg_catalog.pg_settings where name = 'segment_size'",
            &[],
        )
        .await
        .doing("ask for the size of files")?
        .get(0);
    let rows = client
        .query(
            "select pg_catalog.format('%I.%I', n.nspname, c.relname),
                    coalesce((select i.indrelid from pg_catalog.pg_index i where i.indexrelid = c.oid),
                             (select t.oid from pg_catalog.pg_class t where t.reltoastrelid = c.oid),
                             (select t.oid from pg_catalog.pg_class t join pg_catalog.pg_index i on i.indrelid = t.reltoastrelid
                               where i.indexrelid = c.oid), c.oid)::pg_catalog.regclass::pg_catalog.text,
                    pg_catalog.pg_relation_filepath(c.oid), pg_catalog.pg_relation_size(c.oid)
               from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
              where c.relkind in ('r', 'i', 't', 'm', 'S') and pg_catalog.pg_relation_filepath(c.oid) is not null
              order by 1",
            &[],
        )
        .await
        .doing("list the files")?;
    let mut wanted: Vec<Vec<u8>> = vec![sought.tenant.as_uuid().as_bytes().to_vec()];
    wanted.extend(sought.texts.iter().map(|text| text.as_bytes().to_vec()));
    let mut found = Vec::new();
    for row in &rows {
        let (path, bytes): (String, i64) = (row.get(2), row.get(3));
        let pieces = search(client, &path, bytes, segment, &wanted).await?;
        if pieces > 0 {
            found.push(FileTrace {
                relation: row.get(0),
                table: row.get(1),
                pieces,
            });
        }
    }
    Ok((rows.len(), found))
}

async fn search(client: &Client, path: &str, bytes: i64, segment: i64, wanted: &[Vec<u8>]) -> Result<i64, SqlError> {
    let (mut at, mut pieces) = (0, 0);
    while at < bytes {
        let (number, within) = (at / segment, at % segment);
        let file = if number == 0 {
            path.to_owned()
        } else {
            format!("{path}.{number}")
        };
        let row = client
            .query_one(
                "select exists (select from pg_catalog.unnest($4::pg_catalog.bytea[]) as w where position(w in piece) > 0)
                   from (select pg_catalog.pg_read_binary_file($1, $2, $3, true) as piece) as read",
                &[&file, &within, &(PIECE + OVERLAP), &wanted],
            )
            .await
            .doing("read a file of the database")?;
        pieces += i64::from(row.get::<_, Option<bool>>(0).unwrap_or(false));
        at += PIECE;
    }
    Ok(pieces)
}
