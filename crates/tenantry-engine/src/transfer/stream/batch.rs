//! Rows on their way to the target: many statements in flight on one connection, in order, inside one transaction.

use std::{
    collections::{HashMap, VecDeque},
    pin::Pin,
    sync::Arc,
};

use futures_util::{
    FutureExt,
    future::{MaybeDone, maybe_done},
};
use tenantry_wire::replication::Lsn;
use tokio_postgres::{
    Client, Statement,
    types::{PgLsn, ToSql, Type},
};

use super::{
    StreamError, StreamName,
    row::{self, TextValue},
    statement::{Shape, insert_rows},
    table::Table,
};
use crate::{
    sql_error::{Doing, SqlError},
    transfer::lasting::LIGHTLY,
};

/// How many statements are in flight at most, so that their answers take no memory to speak of.
const FLYING_MAX: usize = 256;
/// How many bytes of them are: what memory holds beside one message of the source.
const FLYING_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How many rows wait for others of the same table, to go in one statement.
const RUN_ROWS_MAX: usize = 64;
/// How many bytes of them do.
const RUN_BYTES_MAX: usize = 256 * 1024;
/// How many prepared statements are kept: a table has one per set of columns that its updates tell.
const STATEMENTS_MAX: usize = 512;

/// The target's connection, and what was sent over it.
pub(super) struct Batch {
    client: Arc<Client>,
    statements: HashMap<(u32, Shape), Statement>,
    /// Rows that were inserted one after another into one table.
    run: Option<Run>,
    flying: VecDeque<Flight>,
    flying_bytes: usize,
    open: bool,
}

struct Run {
    relation: u32,
    table: Arc<Table>,
    rows: VecDeque<Vec<TextValue>>,
    bytes: usize,
}

/// A statement that was sent.
struct Flight {
    act: Act,
    /// Which table it writes, if any.
    table: Option<Arc<Table>>,
    bytes: usize,
    answer: Pin<Box<dyn Answer>>,
}

trait Answer: Future<Output = ()> + Send {
    fn take(self: Pin<&mut Self>) -> Option<Result<u64, tokio_postgres::Error>>;
}

impl<F: Future<Output = Result<u64, tokio_postgres::Error>> + Send> Answer for MaybeDone<F> {
    fn take(self: Pin<&mut Self>) -> Option<F::Output> {
        self.take_output()
    }
}

/// What a statement is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Act {
    Begin,
    Insert,
    Update,
    Delete,
}

impl Batch {
    pub(super) fn new(client: Client) -> Self {
        Self {
            client: Arc::new(client),
            statements: HashMap::new(),
            run: None,
            flying: VecDeque::new(),
            flying_bytes: 0,
            open: false,
        }
    }

    /// A table was altered, or has another number: statements prepared for it are none any more.
    pub(super) fn forget(&mut self, relation: u32) {
        self.statements.retain(|(other, _), _| *other != relation);
    }

    pub(super) async fn insert(
        &mut self,
        relation: u32,
        table: &Arc<Table>,
        values: Vec<TextValue>,
    ) -> Result<(), StreamError> {
        if self.run.as_ref().is_some_and(|run| run.relation != relation) {
            self.flush_run().await?;
        }
        let run = self.run.get_or_insert_with(|| Run {
            relation,
            table: Arc::clone(table),
            rows: VecDeque::new(),
            bytes: 0,
        });
        run.bytes += row::bytes(&values);
        run.rows.push_back(values);
        match run.rows.len() >= RUN_ROWS_MAX || run.bytes >= RUN_BYTES_MAX {
            true => self.flush_run().await,
            false => Ok(()),
        }
    }

    pub(super) async fn update(
        &mut self,
        relation: u32,
        table: &Arc<Table>,
        shape: Shape,
        values: Vec<TextValue>,
    ) -> Result<(), StreamError> {
        self.flush_run().await?;
        self.send(Act::Update, relation, table, shape, values).await
    }

    pub(super) async fn delete(
        &mut self,
        relation: u32,
        table: &Arc<Table>,
        values: Vec<TextValue>,
    ) -> Result<(), StreamError> {
        self.flush_run().await?;
        self.send(Act::Delete, relation, table, Shape::Delete, values).await
    }

    /// Whether rows with two keys, one after the other, are in the part of a table that is there.
    pub(super) async fn are_there(
        &mut self,
        relation: u32,
        table: &Arc<Table>,
        keys: Vec<TextValue>,
    ) -> Result<(bool, bool), StreamError> {
        // What was sent before is answered before, and where it failed that is the reason.
        self.settle(0, 0).await?;
        let statement = self.statement(relation, table, Shape::AreThere).await?;
        let keys: Vec<_> = keys.iter().map(|key| key as &(dyn ToSql + Sync)).collect();
        let row = self
            .client
            .query_one(&statement, &keys)
            .await
            .doing("ask whether a row is in the part of a table that was copied")?;
        Ok((row.get(0), row.get(1)))
    }

    /// Commits what was sent, together with the position, if everything touched what it should have and nobody else moved the
    /// position on. Lightly, it is not waited for that this is on the target's disk.
    pub(super) async fn commit(
        &mut self,
        name: &StreamName,
        (from, to): (Lsn, Lsn),
        lightly: bool,
    ) -> Result<(), StreamError> {
        self.flush_run().await?;
        // Changes may have come to nothing.
        self.begin();
        self.settle(0, 0).await?;
        let moved = self
            .client
            .execute_typed(
                "update tenantry_move.position set position = $3, moved_at = pg_catalog.now() where stream = $1 and position = $2",
                &[
                    (&name.text(), Type::TEXT),
                    (&PgLsn::from(from.0), Type::PG_LSN),
                    (&PgLsn::from(to.0), Type::PG_LSN),
                ],
            )
            .await
            .doing("note how far the stream is")?;
        if moved != 1 {
            return Err(StreamError::Superseded);
        }
        let commit = match lightly {
            true => format!("{LIGHTLY}; commit"),
            false => "commit".to_owned(),
        };
        self.client
            .batch_execute(&commit)
            .await
            .doing("commit what the source committed")?;
        self.open = false;
        Ok(())
    }

    async fn flush_run(&mut self) -> Result<(), StreamError> {
        let Some(mut run) = self.run.take() else {
            return Ok(());
        };
        while !run.rows.is_empty() {
            let rows = insert_rows(&run.table, run.rows.len());
            let values: Vec<TextValue> = run.rows.drain(..rows).flatten().collect();
            self.send(Act::Insert, run.relation, &run.table, Shape::Insert(rows), values)
                .await?;
        }
        Ok(())
    }

    async fn send(
        &mut self,
        act: Act,
        relation: u32,
        table: &Arc<Table>,
        shape: Shape,
        values: Vec<TextValue>,
    ) -> Result<(), StreamError> {
        self.begin();
        let statement = self.statement(relation, table, shape).await?;
        let bytes = row::bytes(&values);
        let client = Arc::clone(&self.client);
        self.launch(act, Some(table), bytes, async move {
            client.execute_raw(&statement, values).await
        });
        if self.flying.len() > FLYING_MAX || self.flying_bytes > FLYING_BYTES_MAX {
            self.settle(FLYING_MAX / 2, FLYING_BYTES_MAX / 2).await?;
        }
        Ok(())
    }

    fn begin(&mut self) {
        if self.open {
            return;
        }
        self.open = true;
        let client = Arc::clone(&self.client);
        // What the source held to at its commit may not hold in between.
        self.launch(Act::Begin, None, 0, async move {
            client.batch_execute("begin; set constraints all deferred").await?;
            Ok(1)
        });
    }

    /// Sends at once: the driver puts a statement on its way when it is polled first, and statements go in this order.
    fn launch(
        &mut self,
        act: Act,
        table: Option<&Arc<Table>>,
        bytes: usize,
        statement: impl Future<Output = Result<u64, tokio_postgres::Error>> + Send + 'static,
    ) {
        let mut answer: Pin<Box<dyn Answer>> = Box::pin(maybe_done(statement));
        // An answer that is there already stays where `take` finds it.
        let _ = answer.as_mut().now_or_never();
        self.flying_bytes += bytes;
        self.flying.push_back(Flight {
            act,
            table: table.cloned(),
            bytes,
            answer,
        });
    }

    /// Waits until no more than so many statements and bytes are in flight.
    async fn settle(&mut self, flying_max: usize, bytes_max: usize) -> Result<(), StreamError> {
        while self.flying.len() > flying_max || self.flying_bytes > bytes_max {
            let Some(mut flight) = self.flying.pop_front() else {
                return Ok(());
            };
            flight.answer.as_mut().await;
            self.flying_bytes -= flight.bytes;
            let answer = flight.answer.as_mut().take().expect("it was awaited once");
            flight.judge(answer)?;
        }
        Ok(())
    }

    async fn statement(&mut self, relation: u32, table: &Table, shape: Shape) -> Result<Statement, StreamError> {
        let key = (relation, shape);
        if let Some(statement) = self.statements.get(&key) {
            return Ok(statement.clone());
        }
        match self.client.prepare(&key.1.sql(table)).await {
            Ok(statement) => {
                if self.statements.len() >= STATEMENTS_MAX {
                    self.statements.clear();
                }
                self.statements.insert(key, statement.clone());
                Ok(statement)
            }
            Err(source) => {
                // An earlier statement's failure is the reason, if there was one.
                self.settle(0, 0).await?;
                Err(source)
                    .doing("prepare a statement for a table of the target")
                    .map_err(StreamError::from)
            }
        }
    }
}

impl Flight {
    fn judge(&self, answer: Result<u64, tokio_postgres::Error>) -> Result<(), StreamError> {
        let act = match self.act {
            Act::Begin => {
                answer.doing("begin a transaction at the target")?;
                return Ok(());
            }
            Act::Insert => "insert",
            Act::Update => "update",
            Act::Delete => "delete",
        };
        let table = || self.table.as_ref().map_or_else(String::new, |table| table.name.clone());
        let rows = answer.map_err(|source| StreamError::Row {
            act,
            table: table(),
            source: SqlError {
                doing: "write it",
                source,
            },
        })?;
        match self.act {
            Act::Update | Act::Delete if rows != 1 => Err(StreamError::Diverged {
                act: if self.act == Act::Update { "updated" } else { "deleted" },
                table: table(),
                rows,
            }),
            _ => Ok(()),
        }
    }
}
