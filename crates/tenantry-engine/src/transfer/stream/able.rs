//! Whether a home's changes can be streamed.

use tokio_postgres::Client;

use super::{StreamError, publication};
use crate::sql_error::{Doing, SqlError};

/// Why a home's changes can't be streamed, as a sentence; `None` where they can be. Slots and senders may be taken by others until one's own
/// are made.
///
/// # Errors
///
/// Where the database can't be asked.
///
/// # Cancel safety
///
/// It only reads.
pub async fn hindrance(admin: &Client, schema: &str) -> Result<Option<String>, StreamError> {
    match hindrance_of_server(admin).await? {
        Some(why) => Ok(Some(why)),
        None => hindrance_of_tables(admin, schema).await,
    }
}

/// The same as far as it lies in the tables of a schema.
///
/// # Errors
///
/// Where the database can't be asked.
///
/// # Cancel safety
///
/// It only reads.
pub async fn hindrance_of_tables(admin: &Client, schema: &str) -> Result<Option<String>, StreamError> {
    match publication::tables(admin, schema).await {
        Ok(_) => {}
        Err(StreamError::NoKey { table }) => {
            return Ok(Some(format!(
                "the table `{table}` has no primary key with `tenant_id`, so its changes can't be told"
            )));
        }
        Err(error) => return Err(error),
    }
    let unlogged = admin
        .query_opt(
            "select c.relname::text
               from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
              where n.nspname = $1 and c.relkind in ('r', 'p') and c.relpersistence = 'u'
              order by 1 limit 1",
            &[&schema],
        )
        .await
        .doing("look for unlogged tables")?;
    Ok(unlogged.map(|row| {
        format!(
            "the table `{}` is unlogged, so its changes are told to nobody",
            row.get::<_, String>(0)
        )
    }))
}

/// Slots and senders of one move: the stream's, and one more of each while both sides are compared.
const TAKEN: i64 = 2;

/// The same as far as it lies in the server, whichever of its databases is connected.
///
/// # Errors
///
/// Where the server can't be asked.
///
/// # Cancel safety
///
/// It only reads.
pub async fn hindrance_of_server(admin: &Client) -> Result<Option<String>, SqlError> {
    let row = admin
        .query_one(
            "select pg_catalog.current_setting('wal_level'),
                    pg_catalog.current_setting('max_replication_slots')::int8
                      - (select pg_catalog.count(*) from pg_catalog.pg_replication_slots),
                    pg_catalog.current_setting('max_wal_senders')::int8
                      - (select pg_catalog.count(*) from pg_catalog.pg_stat_replication)",
            &[],
        )
        .await
        .doing("ask whether the server can tell changes")?;
    let (level, slots, senders): (String, i64, i64) = (row.get(0), row.get(1), row.get(2));
    Ok(if level != "logical" {
        Some(format!(
            "the server has wal_level = {level}, and changes are told with wal_level = logical (which takes a restart)"
        ))
    } else if slots < TAKEN {
        Some(format!(
            "the server has {slots} replication slots left, and a move takes {TAKEN} (max_replication_slots)"
        ))
    } else if senders < TAKEN {
        Some(format!(
            "the server has {senders} WAL senders left, and a move takes {TAKEN} (max_wal_senders)"
        ))
    } else {
        None
    })
}

/// Whether the connected server keeps its log for a slot however long nobody takes it: then a move that takes long can fill its disk.
///
/// # Errors
///
/// Where the server can't be asked.
///
/// # Cancel safety
///
/// It only reads.
pub async fn keeps_log_without_bound(client: &Client) -> Result<bool, SqlError> {
    let row = client
        .query_one(
            "select pg_catalog.current_setting('max_slot_wal_keep_size') = '-1'",
            &[],
        )
        .await
        .doing("ask for how long the server keeps its log")?;
    Ok(row.get(0))
}
