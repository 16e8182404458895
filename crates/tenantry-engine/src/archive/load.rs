//! Rows into a tenant's home, in one transaction: all of them, verified, or none.

use std::pin::{Pin, pin};

use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt as _, TryStreamExt as _};
use tenantry_core::{InstallationId, Isolation};
use tenantry_sql::Identifier;
use tokio_postgres::{Client, CopyInSink};

use super::{
    ArchiveError, NewIds, Place, TableHead, Tally, Unpacker, advance, ahead,
    copy_text::Lines,
    export::reading,
    orphans,
    snapshot::{FORMATS, qualified, quoted, roll_back, search_path},
    tables::{self, Table},
};
use crate::{
    fence::{self, Closed},
    home::{Acting, acting},
    roles::Roles,
    sql_error::{Doing as _, SqlError},
};

/// Where rows wait whose role may not COPY them into their table.
const WAITING: &str = "tenantry_waiting_rows";
/// How much is gathered before it is sent.
const MESSAGE_BYTES: usize = 1 << 16;

/// A transaction that fills a tenant's home. What the tenant had there goes first.
///
/// # Cancel safety
///
/// Dropped before [`commit`](Self::commit), its connection has to be dropped, which rolls it back.
#[derive(Debug)]
pub struct Load<'a> {
    client: &'a Client,
    place: Place,
    acting: Acting,
    owner: Identifier,
    tables: Vec<Table>,
}

/// One table that is being filled.
pub(super) struct Filling {
    sink: Pin<Box<CopyInSink<Bytes>>>,
    prefix: Vec<u8>,
    buffer: BytesMut,
    lines: Lines,
    pub(super) tally: Tally,
}

impl<'a> Load<'a> {
    /// Begins it, over a connection of the administrator that is in no transaction, and removes what rows the tenant has.
    ///
    /// Nobody may read or write there in the tenant's name meanwhile: it is not served yet, or fenced off.
    ///
    /// # Errors
    ///
    /// Where a statement fails.
    pub async fn begin(client: &'a Client, installation: &InstallationId, place: &Place) -> Result<Self, ArchiveError> {
        let acting = acting(client, installation).await?;
        let Roles { mover, owner, .. } = Roles::of(installation);
        let path = search_path(&place.schema)?;
        client
            .batch_execute(&format!("begin; {FORMATS}; {path}"))
            .await
            .doing("begin")?;
        let tables = tables::list(client, &place.schema).await?;
        let act = match acting {
            Acting::Mover => format!(
                "set local row_security = off; set local role {mover}; set local session_replication_role = replica"
            ),
            Acting::Owner => format!(
                "select tenantry_private.act_for('{}'); set local role {owner}",
                place.tenant.as_uuid()
            ),
        };
        client.batch_execute(&act).await.doing("act for the tenant")?;
        let load = Self {
            client,
            place: place.clone(),
            acting,
            owner,
            tables,
        };
        load.empty().await?;
        Ok(load)
    }

    async fn empty(&self) -> Result<(), ArchiveError> {
        for table in self.tables.iter().rev() {
            let delete = format!(
                "delete from {} where tenant_id = '{}'",
                qualified(&self.place.schema, &table.head.name)?,
                self.place.tenant.as_uuid()
            );
            self.client
                .batch_execute(&delete)
                .await
                .doing("remove what rows the tenant had")?;
        }
        Ok(())
    }

    /// Refuses tables that are not those of the home, by their names, columns and types.
    ///
    /// # Errors
    ///
    /// [`ArchiveError::Unfit`].
    pub fn require_fit<'b>(&self, heads: impl IntoIterator<Item = &'b TableHead>) -> Result<(), ArchiveError> {
        let mut left: Vec<&Table> = self.tables.iter().collect();
        for head in heads {
            let Some(there) = left.iter().position(|table| table.head.name == head.name) else {
                return Err(unfit(&head.name, "the home has no such table"));
            };
            let table = left.swap_remove(there);
            for column in &head.columns {
                let same = |known: &&super::Column| known.name == column.name;
                match table.head.columns.iter().find(same) {
                    None => return Err(unfit(&head.name, format!("its column {} is not there", column.name))),
                    Some(known) if known.r#type != column.r#type => {
                        let reason = format!("{} is {} there, and {} here", column.name, known.r#type, column.r#type);
                        return Err(unfit(&head.name, reason));
                    }
                    Some(_) => {}
                }
            }
            if table.head.columns.len() != head.columns.len() {
                return Err(unfit(&head.name, "it has more columns there"));
            }
        }
        match left.first() {
            None => Ok(()),
            Some(table) => Err(unfit(&table.head.name, "it is not among what is to be loaded")),
        }
    }

    /// Begins to fill a table.
    pub(super) async fn fill(&self, head: &TableHead) -> Result<Filling, ArchiveError> {
        let names: Vec<&str> = head.columns.iter().map(|column| column.name.as_str()).collect();
        let table = qualified(&self.place.schema, &head.name)?.to_string();
        let (separator, tab) = if names.is_empty() { ("", "") } else { (", ", "\t") };
        let columns = format!("tenant_id{separator}{}", quoted(&names)?);
        let into = match self.acting {
            Acting::Mover => table.clone(),
            // COPY takes no rows for whom row security binds: they go by a table that nobody else sees.
            Acting::Owner => {
                let make = format!(
                    "set local role none; drop table if exists pg_temp.{WAITING};
                     create temporary table {WAITING} on commit drop as select {columns} from {table} with no data;
                     grant select on pg_temp.{WAITING} to {}",
                    self.owner
                );
                self.client.batch_execute(&make).await.doing("make room for rows")?;
                format!("pg_temp.{WAITING}")
            }
        };
        let copy = format!("copy {into} ({columns}) from stdin");
        let sink = self.client.copy_in(&copy).await.map_err(writing)?;
        Ok(Filling {
            sink: Box::pin(sink),
            prefix: format!("{}{tab}", self.place.tenant.as_uuid()).into_bytes(),
            buffer: BytesMut::with_capacity(MESSAGE_BYTES * 2),
            lines: Lines::default(),
            tally: Tally::default(),
        })
    }

    /// Ends it: all that was sent stands in the table. Tells what that was.
    pub(super) async fn filled(&self, head: &TableHead, filling: Filling) -> Result<Tally, ArchiveError> {
        let tally = filling.finish().await?;
        if self.acting == Acting::Owner {
            let names: Vec<&str> = head.columns.iter().map(|column| column.name.as_str()).collect();
            let separator = if names.is_empty() { "" } else { ", " };
            let columns = format!("tenant_id{separator}{}", quoted(&names)?);
            let insert = format!(
                "set local role {}; insert into {} ({columns}) overriding system value select {columns} from pg_temp.{WAITING}",
                self.owner,
                qualified(&self.place.schema, &head.name)?
            );
            self.client
                .batch_execute(&insert)
                .await
                .doing("write the tenant's rows")?;
        }
        Ok(tally)
    }

    /// Reads a filled table back, and refuses what is not the same.
    pub(super) async fn verify(&self, head: &TableHead, sent: &Tally) -> Result<(), ArchiveError> {
        let columns: Vec<&str> = head.columns.iter().map(|column| column.name.as_str()).collect();
        let copy = format!(
            "copy (select {} from {} where tenant_id = '{}') to stdout",
            quoted(&columns)?,
            qualified(&self.place.schema, &head.name)?,
            self.place.tenant.as_uuid()
        );
        let mut stream = pin!(self.client.copy_out(&copy).await.map_err(reading)?);
        let (mut lines, mut arrived) = (Lines::default(), Tally::default());
        while let Some(chunk) = stream.try_next().await.map_err(reading)? {
            lines.feed(&chunk, |line| {
                arrived.add(line);
                Ok::<_, ArchiveError>(())
            })?;
        }
        if arrived.is_same(sent) {
            return Ok(());
        }
        Err(ArchiveError::Differs {
            table: head.name.clone(),
            sent: sent.rows,
            arrived: arrived.rows,
        })
    }

    /// Moves the sequences past what was loaded. Never back: in shared tables other tenants draw from them too.
    pub(super) async fn advance(&self, heads: &[&TableHead], ids: Option<&NewIds>) -> Result<(), ArchiveError> {
        for head in heads {
            let Some(table) = self.tables.iter().find(|table| table.head.name == head.name) else {
                continue;
            };
            for reached in &head.sequences {
                let sequence = table.sequences.iter().find(|known| known.column == reached.column);
                let renewed = ids.and_then(|ids| ids.reached(&head.name, &reached.column));
                let (Some(sequence), Some(value)) = (sequence, renewed.or(reached.value)) else {
                    continue;
                };
                match self.place.isolation {
                    Isolation::Shared => advance::past_shared(self.client, &self.owner, sequence.oid, value).await?,
                    Isolation::Schema | Isolation::Database => {
                        advance::past(self.client, sequence.oid, value).await?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Looks whether all that rows refer to is there, and commits. `ahead` are the migrations of data that the rows have and the tables
    /// have not.
    ///
    /// # Errors
    ///
    /// [`ArchiveError::Orphans`]; nothing is kept then.
    pub async fn commit(self, ahead: &[i64]) -> Result<(), ArchiveError> {
        self.settle(ahead).await?;
        Ok(self.client.batch_execute("commit").await.doing("commit the rows")?)
    }

    /// The same, and the tenant's fence, which is closed, says from then on that its calls wait: so whoever comes later can tell whether
    /// this was committed.
    async fn commit_and_say_so(self, ahead: &[i64]) -> Result<(), ArchiveError> {
        self.settle(ahead).await?;
        fence::restate(self.client, self.place.tenant, self.place.epoch, Closed::Moving).await?;
        Ok(self.client.batch_execute("commit").await.doing("commit the rows")?)
    }

    /// All but the commit.
    async fn settle(&self, ahead: &[i64]) -> Result<(), ArchiveError> {
        orphans::refuse(self.client, &self.place.schema, self.place.tenant).await?;
        let settle = match self.acting {
            Acting::Mover => "set local role none".to_owned(),
            Acting::Owner => format!(
                "set local tenantry.settling = 'on'; set constraints all immediate; set local role none; \
                 select tenantry_private.act_done('{}')",
                self.place.tenant.as_uuid()
            ),
        };
        self.client.batch_execute(&settle).await.doing("settle the rows")?;
        Ok(ahead::write(self.client, &self.place, ahead).await?)
    }

    /// Keeps nothing.
    ///
    /// # Errors
    ///
    /// Where the connection is gone, and the transaction with it.
    pub async fn roll_back(self) -> Result<(), ArchiveError> {
        Ok(roll_back(self.client).await?)
    }
}

impl Filling {
    /// Sends rows; `change` may write another one instead of each.
    pub(super) async fn send(
        &mut self,
        chunk: &[u8],
        mut change: impl FnMut(&[u8], &mut Vec<u8>) -> Result<bool, ArchiveError>,
    ) -> Result<(), ArchiveError> {
        let (prefix, buffer, tally) = (&self.prefix, &mut self.buffer, &mut self.tally);
        let mut changed = Vec::new();
        self.lines.feed(chunk, |line| {
            changed.clear();
            let line = if change(line, &mut changed)? { &changed } else { line };
            tally.add(line);
            buffer.extend_from_slice(prefix);
            buffer.extend_from_slice(line);
            Ok::<_, ArchiveError>(())
        })?;
        if self.buffer.len() >= MESSAGE_BYTES {
            self.flush().await?;
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), ArchiveError> {
        let message = self.buffer.split().freeze();
        self.sink.send(message).await.map_err(writing)
    }

    async fn finish(mut self) -> Result<Tally, ArchiveError> {
        if !self.lines.is_whole() {
            return Err(ArchiveError::malformed("the rows end in the middle of one"));
        }
        self.flush().await?;
        self.sink.as_mut().finish().await.map_err(writing)?;
        Ok(self.tally)
    }
}

fn unfit(table: &str, reason: impl Into<String>) -> ArchiveError {
    ArchiveError::Unfit {
        table: table.to_owned(),
        reason: reason.into(),
    }
}

fn writing(source: tokio_postgres::Error) -> ArchiveError {
    ArchiveError::Sql(SqlError {
        doing: "write the tenant's rows",
        source,
    })
}

/// Loads an archive's rows into a tenant's home, which has the tables of the archive's migrations, and verifies each table by count
/// and checksum before it commits. With `ids` the rows get new ones on the way, and what is compared are the rows with these. `progress` is
/// told of each table that is done: its number, its name and its rows.
///
/// # Errors
///
/// Any [`ArchiveError`]; the home is then as it was.
///
/// # Cancel safety
///
/// Dropped before its end, the connection has to be dropped; nothing is kept.
pub async fn load(
    client: &Client,
    installation: &InstallationId,
    place: &Place,
    archive: &Unpacker,
    ids: Option<&NewIds>,
    progress: &mut (dyn FnMut(usize, &str, u64) + Send),
) -> Result<(), ArchiveError> {
    let load = Load::begin(client, installation, place).await?;
    match fill_all(&load, archive, ids, progress).await {
        Ok(()) => load.commit(&archive.manifest().ahead).await,
        Err(error) => {
            // Where this fails too the connection is gone, and the transaction with it.
            let _ = load.roll_back().await;
            Err(error)
        }
    }
}

/// Loads an archive's rows in the place of those that a tenant has, as [`load`] does. The tenant's fence is closed as suspended before; once
/// the rows are the archive's it is closed as [`Closed::Moving`], by the same commit. So a process that finds the fence of a load whose
/// end it did not see knows whose rows these are.
///
/// # Errors
///
/// Any [`ArchiveError`]; the rows and the fence are then as they were.
///
/// # Cancel safety
///
/// Dropped before its end, the connection has to be dropped; both are as they were, or neither is.
pub async fn replace(
    client: &Client,
    installation: &InstallationId,
    place: &Place,
    archive: &Unpacker,
    progress: &mut (dyn FnMut(usize, &str, u64) + Send),
) -> Result<(), ArchiveError> {
    let load = Load::begin(client, installation, place).await?;
    match fill_all(&load, archive, None, progress).await {
        Ok(()) => load.commit_and_say_so(&archive.manifest().ahead).await,
        Err(error) => {
            // Where this fails too the connection is gone, and the transaction with it.
            let _ = load.roll_back().await;
            Err(error)
        }
    }
}

async fn fill_all(
    load: &Load<'_>,
    archive: &Unpacker,
    ids: Option<&NewIds>,
    progress: &mut (dyn FnMut(usize, &str, u64) + Send),
) -> Result<(), ArchiveError> {
    let tables = &archive.manifest().tables;
    load.require_fit(tables.iter().map(|table| &table.head))?;
    let mut reading = archive.chunks()?;
    let mut next = reading.chunks.recv().await;
    for (number, table) in tables.iter().enumerate() {
        let mut filling = load.fill(&table.head).await?;
        let renewed = ids.map(|ids| ids.table(&table.head));
        // Of the rows as they stand in the archive, where they are sent otherwise.
        let mut packed = Tally::default();
        while let Some(chunk) = next.take_if(|chunk| chunk.table == number) {
            let change = |line: &[u8], out: &mut Vec<u8>| match &renewed {
                None => Ok(false),
                Some(renewed) => {
                    packed.add(line);
                    renewed.apply(line, out)
                }
            };
            filling.send(&chunk.rows, change).await?;
            next = reading.chunks.recv().await;
        }
        let sent = load.filled(&table.head, filling).await?;
        if !table.is(if renewed.is_some() { &packed } else { &sent }) {
            // Where reading failed, that is why.
            reading.end().await?;
            return Err(ArchiveError::Miscounted {
                table: table.head.name.clone(),
            });
        }
        load.verify(&table.head, &sent).await?;
        progress(number, &table.head.name, sent.rows);
    }
    if next.is_some() {
        return Err(ArchiveError::malformed("its rows are not in the manifest's order"));
    }
    reading.end().await?;
    let heads: Vec<&TableHead> = tables.iter().map(|table| &table.head).collect();
    load.advance(&heads, ids).await
}
