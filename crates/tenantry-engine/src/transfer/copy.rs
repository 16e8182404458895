//! The rows themselves, by `copy` through this process.
//!
//! `copy` is binary where each column's type says the same by it in every database, which spares both servers to write numbers
//! and times as text. Where a type is numbered by each database for itself (composites, arrays of an application's types) or is an
//! extension's, the whole table goes as text, in which names stand for numbers.

mod pieces;

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt, TryStreamExt, pin_mut};
use tenantry_core::TenantId;

use self::pieces::Pieces;
use super::{
    End, Table, TransferError,
    end::of,
    lasting::LIGHTLY,
    stream::{Kept, StreamName, read_kept},
    tables,
    tables::Column,
};
use crate::sql_error::Doing;

/// How long one of the servers may take for the next piece.
const STALL: Duration = Duration::from_secs(60);
/// How often a progress is told, in bytes of a table.
const TELL_EVERY: u64 = 1 << 20;
/// How much is gathered before it is handed on: a server sends each row by itself, and to wake others for each takes longer than to copy it.
const PIECE_BYTES: usize = 1 << 16;

/// A table that was copied.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Copied {
    /// Its plain name.
    pub table: String,
    /// How many of its rows are the tenant's.
    pub rows: u64,
    /// How many bytes went through this process.
    pub bytes: u64,
}

/// How far a copy is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress<'a> {
    /// The table that is being copied, or was copied last.
    pub table: &'a str,
    /// How many tables are done.
    pub tables_done: usize,
    /// Of how many.
    pub tables: usize,
    /// The rows that have gone through this process; of the table that is being copied, roughly.
    pub rows: u64,
    /// The bytes that have gone through this process.
    pub bytes: u64,
}

/// Is told how far a copy is.
pub type Tell<'a> = &'a mut (dyn FnMut(Progress<'_>) + Send);

/// Where a copy goes on that was begun as a stream's, and how.
#[derive(Clone, Copy, Debug)]
pub struct Rest<'a> {
    /// The moment: what is left is copied as of it, and what is there has been brought up to it.
    pub snapshot: &'a str,
    /// Whose notes say what is there.
    pub stream: &'a StreamName,
    /// How many rows of a large table are committed at least with a note of the last one: so many are copied again after a crash.
    pub piece_rows: u64,
}

/// A table at both ends.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) source: Table,
    pub(super) target: Table,
}

impl Pair {
    /// How `copy` writes it, as SQL.
    pub(super) fn form(&self) -> &'static str {
        match self.binary() {
            true => " (format binary)",
            false => "",
        }
    }

    fn binary(&self) -> bool {
        let same = |(one, other): (&Column, &Column)| unqualified(&one.kind) == unqualified(&other.kind);
        self.source.binary() && self.target.binary() && self.source.columns.iter().zip(&self.target.columns).all(same)
    }
}

/// A type's name without its schema, which differs from home to home.
pub(super) fn unqualified(kind: &str) -> &str {
    kind.rsplit('.').next().unwrap_or(kind)
}

/// Copies a tenant's rows of all tables from one database to another, in one transaction at the target, where the tenant's rows are
/// thrown away first: so it can be done again. The source is read as of one moment: of the snapshot that is named, or of now.
///
/// It takes little more memory than the largest row, and leaves other tenants' rows alone. The commit is not waited for:
/// [`make_lasting`](super::make_lasting) has to follow.
///
/// # Errors
///
/// See [`TransferError`]; drop both connections then.
///
/// # Cancel safety
///
/// Drop both connections: nothing was copied.
pub async fn copy(
    source: End<'_>,
    target: End<'_>,
    tenant: TenantId,
    snapshot: Option<&str>,
    tell: Tell<'_>,
) -> Result<Vec<Copied>, TransferError> {
    copy_tables(source, target, tenant, snapshot, None, tell).await
}

/// The same of what the stream's copy has not brought yet, each table in a transaction of its own with its note. Large ones are copied in
/// pieces in the order of their keys, each with the key that it goes up to. Tells of all tables.
///
/// # Errors
///
/// See [`TransferError`]; drop both connections then.
///
/// # Cancel safety
///
/// Drop both connections; tables and pieces that were done are left out the next time.
pub async fn copy_rest(
    source: End<'_>,
    target: End<'_>,
    tenant: TenantId,
    rest: Rest<'_>,
    tell: Tell<'_>,
) -> Result<Vec<Copied>, TransferError> {
    copy_tables(source, target, tenant, Some(rest.snapshot), Some(rest), tell).await
}

async fn copy_tables(
    source: End<'_>,
    target: End<'_>,
    tenant: TenantId,
    snapshot: Option<&str>,
    noted: Option<Rest<'_>>,
    tell: Tell<'_>,
) -> Result<Vec<Copied>, TransferError> {
    let pairs = pairs(source, target).await?;
    let (mut copied, pieces) = match noted {
        Some(rest) => {
            let Kept { whole, begun } = read_kept(target.client, rest.stream).await?;
            (whole, Some(Pieces::read(source, rest, begun).await?))
        }
        None => (Vec::new(), None),
    };
    let rest: Vec<_> = pairs
        .iter()
        .filter(|pair| !copied.iter().any(|one| one.table == pair.source.name))
        .collect();
    source.begin_reading(snapshot).await?;
    if noted.is_none() {
        // All of it or nothing, and one commit.
        target.begin_writing().await?;
        target
            .client
            .batch_execute(LIGHTLY)
            .await
            .doing("begin to write the tenant's rows")?;
    }
    for pair in rest {
        let (rows, bytes) = sum(&copied);
        let mut so_far = |more_rows: u64, more: u64| {
            tell(Progress {
                table: &pair.source.name,
                tables_done: copied.len(),
                tables: pairs.len(),
                rows: rows + more_rows,
                bytes: bytes + more,
            });
        };
        so_far(0, 0);
        let one = match &pieces {
            Some(pieces) => pieces.copy(source, target, pair, tenant, &mut so_far).await?,
            None => copy_table(source, target, pair, tenant, &mut so_far).await?,
        };
        copied.push(one);
    }
    source.roll_back().await;
    if noted.is_none() {
        target.commit().await?;
    }
    if let Some(last) = copied.last() {
        let (rows, bytes) = sum(&copied);
        tell(Progress {
            table: &last.table,
            tables_done: copied.len(),
            tables: pairs.len(),
            rows,
            bytes,
        });
    }
    Ok(copied)
}

fn sum(copied: &[Copied]) -> (u64, u64) {
    (
        copied.iter().map(|one| one.rows).sum(),
        copied.iter().map(|one| one.bytes).sum(),
    )
}

pub(super) async fn copy_table(
    source: End<'_>,
    target: End<'_>,
    pair: &Pair,
    tenant: TenantId,
    so_far: &mut (dyn FnMut(u64, u64) + Send),
) -> Result<Copied, TransferError> {
    empty(target, &pair.target, tenant).await?;
    copy_rows(source, target, pair, &of(tenant), so_far).await
}

/// Copies the rows of a table that a condition names.
async fn copy_rows(
    source: End<'_>,
    target: End<'_>,
    pair: &Pair,
    condition: &str,
    so_far: &mut (dyn FnMut(u64, u64) + Send),
) -> Result<Copied, TransferError> {
    let form = pair.form();
    let columns = pair.source.column_list();
    let read = format!(
        "copy (select {columns} from {} where {condition}) to stdout{form}",
        pair.source.quoted
    );
    let write = format!("copy {} ({columns}) from stdin{form}", pair.target.quoted);
    let rows = lively(pair, source.client.copy_out(&read)).await?;
    let sink = lively(pair, target.client.copy_in::<_, Bytes>(&write)).await?;
    pin_mut!(rows, sink);
    let (mut bytes, mut told, mut pieces) = (0, 0, 0);
    let mut gathered = BytesMut::with_capacity(PIECE_BYTES);
    // The sink's back-pressure bounds what is in memory.
    while let Some(piece) = lively(pair, rows.try_next()).await? {
        bytes += piece.len() as u64;
        // A server sends each row by itself.
        pieces += 1;
        gathered.extend_from_slice(&piece);
        if gathered.len() >= PIECE_BYTES {
            lively(pair, sink.feed(gathered.split().freeze())).await?;
        }
        if bytes - told >= TELL_EVERY {
            told = bytes;
            so_far(pieces, bytes);
        }
    }
    lively(pair, sink.feed(gathered.freeze())).await?;
    let rows = lively(pair, sink.finish()).await?;
    Ok(Copied {
        table: pair.source.name.clone(),
        rows,
        bytes,
    })
}

/// A server that keeps the connection and answers nothing must not keep the tenant waiting for ever.
pub(super) async fn lively<T>(
    pair: &Pair,
    work: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, TransferError> {
    let table = || pair.source.name.clone();
    match tokio::time::timeout(STALL, work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(source)) => Err(TransferError::Copy { table: table(), source }),
        Err(_) => Err(TransferError::Stalled { table: table() }),
    }
}

/// What an attempt before this one has left.
async fn empty(target: End<'_>, table: &Table, tenant: TenantId) -> Result<(), TransferError> {
    let delete = format!("delete from {} where {}", table.quoted, of(tenant));
    target
        .client
        .batch_execute(&delete)
        .await
        .doing("throw away what an earlier attempt copied")?;
    Ok(())
}

/// The tables of both ends, which have to be the same.
pub(super) async fn pairs(source: End<'_>, target: End<'_>) -> Result<Vec<Pair>, TransferError> {
    let from = tables(source.client, source.schema).await?;
    let mut to = tables(target.client, target.schema).await?;
    let mut pairs = Vec::with_capacity(from.len());
    for source in from {
        let place = to.iter().position(|table| table.name == source.name);
        let place = place.ok_or_else(|| structure(format!("lacks the table {}", source.name)))?;
        let target = to.swap_remove(place);
        same_columns(&source, &target)?;
        pairs.push(Pair { source, target });
    }
    match to.first() {
        Some(table) => Err(structure(format!("has a table more: {}", table.name))),
        None => Ok(pairs),
    }
}

fn same_columns(source: &Table, target: &Table) -> Result<(), TransferError> {
    let has = |table: &Table, name: &str| table.columns.iter().any(|column| column.name == name);
    if let Some(column) = source.columns.iter().find(|column| !has(target, &column.name)) {
        return Err(structure(format!(
            "lacks the column {} of {}",
            column.name, source.name
        )));
    }
    match target.columns.iter().find(|column| !has(source, &column.name)) {
        Some(column) => Err(structure(format!(
            "has a column more: {} of {}",
            column.name, target.name
        ))),
        None => Ok(()),
    }
}

fn structure(what: String) -> TransferError {
    TransferError::Structure { what }
}
