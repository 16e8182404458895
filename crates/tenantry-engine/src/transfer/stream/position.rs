//! How far a stream has taken effect, in the target's own database: it is committed with the rows.
//!
//! The table stands in a schema of its own that is made when the first move comes, so that a tenant database without moves
//! has none of it and its version stays. The mover may use it: `tenantry_private`, with the keys, stays closed to everybody, and
//! every bootstrap closes it again.

use tenantry_core::{InstallationId, OperationId};
use tenantry_sql::Literal;
use tenantry_wire::replication::Lsn;
use tokio_postgres::{Client, GenericClient, Row, types::PgLsn};

use super::{StreamError, StreamName, copied::forget_copied};
use crate::{
    home::Outcome,
    roles::Roles,
    sql_error::{Doing, SqlError},
};

/// Whoever makes the schema holds this advisory lock; the number is arbitrary and never changes.
const MAKING: i64 = 0x6d6f_7665_5f70_6f73;

/// Makes a tenant database ready to be a target: as administrator, at every start of a move's work.
///
/// # Errors
///
/// Where a statement fails.
///
/// # Cancel safety
///
/// Dropped, it was made or not; ask again.
pub async fn prepare_target(admin: &Client, installation: &InstallationId) -> Result<(), StreamError> {
    let mover = Roles::of(installation).mover;
    let mark = Literal::new(Roles::mark(installation)).expect("a mark holds no zero byte");
    let sql = format!(
        "begin;
         set local client_min_messages = warning;
         select pg_catalog.pg_advisory_xact_lock({MAKING});
         create schema if not exists tenantry_move;
         comment on schema tenantry_move is {mark};
         revoke all on schema tenantry_move from public;
         create table if not exists tenantry_move.position (
           stream text primary key,
           position pg_lsn not null,
           moved_at timestamptz not null default pg_catalog.now()
         );
         revoke all on tenantry_move.position from public;
         create table if not exists tenantry_move.copied (
           stream text not null,
           table_name text not null,
           rows int8 not null,
           bytes int8 not null,
           primary key (stream, table_name)
         );
         revoke all on tenantry_move.copied from public;
         create table if not exists tenantry_move.begun (
           stream text not null,
           table_name text not null,
           key_columns text[] not null,
           key_values text[] not null,
           rows int8 not null,
           bytes int8 not null,
           primary key (stream, table_name)
         );
         revoke all on tenantry_move.begun from public;
         grant usage on schema tenantry_move to {mover};
         grant select, insert, update, delete on tenantry_move.position, tenantry_move.copied, tenantry_move.begun to {mover};
         commit"
    );
    let made = admin.batch_execute(&sql).await;
    if made.is_err() {
        // Where this fails too the connection is gone, and the transaction with it.
        let _ = admin.batch_execute("rollback").await;
    }
    made.doing("make the table of positions")?;
    Ok(())
}

/// Notes where a stream begins: at its slot's snapshot. A stream that has begun keeps its position, unless its copy begins again
/// with another slot and `anew` says so. Belongs before the first copied row, or in its transaction.
///
/// # Errors
///
/// Where a statement fails.
pub async fn begin_position(
    client: &impl GenericClient,
    name: &StreamName,
    position: Lsn,
    anew: bool,
) -> Result<Outcome, StreamError> {
    let touched = client
        .execute(
            "insert into tenantry_move.position (stream, position) values ($1, $2)
             on conflict (stream) do update set position = excluded.position, moved_at = pg_catalog.now() where $3",
            &[&name.text(), &PgLsn::from(position.0), &anew],
        )
        .await
        .doing("note where the stream begins")?;
    Ok(match touched {
        0 => Outcome::AlreadySo,
        _ => Outcome::Done,
    })
}

/// How far a stream has taken effect, if the target knows it.
///
/// # Errors
///
/// Where the database can't be asked.
pub async fn read_position(client: &impl GenericClient, name: &StreamName) -> Result<Option<Lsn>, SqlError> {
    let row = client
        .query_opt(
            "select position from tenantry_move.position where stream = $1",
            &[&name.text()],
        )
        .await
        .doing("read how far the stream is")?;
    Ok(row.map(|row| Lsn(row.get::<_, PgLsn>(0).into())))
}

/// The moves of this installation whose streams have a position in the connected database.
///
/// # Errors
///
/// Where the database can't be asked.
///
/// # Cancel safety
///
/// It only reads.
pub async fn list_positions(client: &Client, installation: &InstallationId) -> Result<Vec<OperationId>, StreamError> {
    if !has_positions(client).await? {
        return Ok(Vec::new());
    }
    let rows = client
        .query("select stream from tenantry_move.position order by 1", &[])
        .await
        .doing("list the positions of streams")?;
    let name = |row: &Row| StreamName::parse(installation, row.get(0));
    Ok(rows.iter().filter_map(name).map(|name| name.operation()).collect())
}

async fn has_positions(client: &impl GenericClient) -> Result<bool, SqlError> {
    let row = client
        .query_one(
            "select pg_catalog.to_regclass('tenantry_move.position') is not null",
            &[],
        )
        .await
        .doing("look for the table of positions")?;
    Ok(row.get(0))
}

/// Forgets a stream whose move has ended, or whose copy begins anew: no applier starts or goes on any more, and nothing counts as copied.
///
/// # Errors
///
/// Where a statement fails.
pub async fn forget_position(client: &impl GenericClient, name: &StreamName) -> Result<Outcome, StreamError> {
    if !has_positions(client).await? {
        return Ok(Outcome::AlreadySo);
    }
    let forgotten = client
        .execute("delete from tenantry_move.position where stream = $1", &[&name.text()])
        .await
        .doing("forget the stream's position")?;
    forget_copied(client, name).await?;
    Ok(match forgotten {
        0 => Outcome::AlreadySo,
        _ => Outcome::Done,
    })
}
