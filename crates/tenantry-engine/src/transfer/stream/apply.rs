//! The applier: reads the source's transactions and commits them at the target, each exactly once.

use std::{
    collections::HashMap,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::FutureExt;
use tenantry_core::TenantId;
use tenantry_wire::{
    Endpoint,
    replication::{ChangeStream, Feed, Lsn, Message, Old, Replication},
};
use tokio_postgres::Client;

use super::{
    Kept, Marker, StreamError, StreamName,
    batch::Batch,
    error::AtSource,
    marker, position,
    row::Rows,
    table::{Table, Targets},
    touched::Touched,
};
use crate::{
    sql_error::{Doing, SqlError},
    transfer::key::LastKey,
};

/// How often the source hears of us while we wait or work: it gives up who is silent for a minute, by default.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// After how long the source is asked how far it is while it has nothing for us, ...
const ASK_MIN: Duration = Duration::from_millis(20);
/// ... each time twice as long, up to this.
const ASK_MAX: Duration = Duration::from_secs(2);
/// A transaction at the target takes in no further ones of the source after so many rows, ...
const ROWS_MAX: u64 = 10_000;
/// ... or after so long: what it holds locked, and what is done again after a crash, stays small.
const OPEN_MAX: Duration = Duration::from_millis(500);
/// How long a stream may be another's: that a process died, its servers notice a little later.
const BUSY_MAX: Duration = Duration::from_secs(10);
/// Between two looks.
const BUSY_PAUSE: Duration = Duration::from_millis(50);

/// Which rows go from where to where.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The stream.
    pub name: StreamName,
    /// Whose rows.
    pub tenant: TenantId,
    /// The schema of the tables at the source.
    pub source_schema: String,
    /// And at the target.
    pub target_schema: String,
}

/// How far an applier goes.
#[derive(Clone, Debug)]
pub enum Until {
    /// Everything that was committed at the source before the marker was written.
    Marker(Marker),
    /// Everything that was committed at the source before a position, and nothing that was committed later.
    Position(Lsn),
}

impl Until {
    /// What was committed before it is wanted, what was committed from it on is not.
    fn point(&self) -> Lsn {
        match self {
            Self::Marker(marker) => marker.position,
            Self::Position(position) => *position,
        }
    }
}

/// What an applier has done so far.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Applied {
    /// The target has everything that was committed at the source before.
    pub position: Lsn,
    /// The source has told everything that was committed before.
    pub told: Lsn,
    /// Transactions of the source.
    pub transactions: u64,
    /// Rows that came, changed or went.
    pub rows: u64,
    /// Transactions at the target.
    pub commits: u64,
}

/// Applies one stream. It does nothing of itself: [`Self::run`] works for as long as it is polled.
pub struct Applier {
    stream: ChangeStream,
    batch: Batch,
    plan: Plan,
    rows: Rows,
    targets: Targets,
    types: HashMap<u32, String>,
    tables: HashMap<u32, Arc<Table>>,
    /// What the target has committed.
    position: Lsn,
    /// The end of the last transaction in the target's open one.
    reached: Lsn,
    /// Where we are in the source's transactions.
    within: Within,
    /// A message that was read and belongs behind the point where the last run ended.
    held: Option<Message>,
    opened: Instant,
    /// Changes of whole transactions, and of the one that we are in, that are not committed yet.
    open_rows: u64,
    ask_after: Duration,
    done: Applied,
    /// The rows that were written since [`Self::track`].
    touched: Option<Touched>,
    /// The tables whose changes count, by plain name, and up to which key; all, where there are none.
    only: Option<HashMap<String, Option<LastKey>>>,
    /// What is committed from now on is not waited for.
    lightly: bool,
    /// The last commit at the target was one of these: a crash there may take it back.
    is_in_the_air: bool,
    /// A run was begun and did not end well.
    doubtful: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Within {
    /// Between two.
    Nothing,
    /// In one that the target does not have.
    New,
    /// In one that it has.
    Known,
}

impl Applier {
    /// Goes on where the target is. `target` is a connection of its own of the mover to the tenant database, which bypasses row
    /// security and may set `session_replication_role`; `source` is the mover's way to the source's database.
    ///
    /// # Errors
    ///
    /// [`StreamError::NoPosition`], [`StreamError::SlotLost`], [`StreamError::Superseded`] where another applier is at work, and where a
    /// connection fails.
    ///
    /// # Cancel safety
    ///
    /// Dropped, both connections are closed.
    pub async fn start(source: Arc<Endpoint>, target: Client, plan: Plan) -> Result<Self, StreamError> {
        prepare(&target, &plan.target_schema).await?;
        hold_alone(&target, &plan.name).await?;
        let position = position::read_position(&target, &plan.name)
            .await?
            .ok_or(StreamError::NoPosition)?;
        let targets = Targets::read(&target, &plan.target_schema).await?;
        let stream = start_stream(source, &plan.name, position).await?;
        Ok(Self {
            stream,
            batch: Batch::new(target),
            rows: Rows::of(plan.tenant),
            plan,
            targets,
            types: HashMap::new(),
            tables: HashMap::new(),
            position,
            reached: position,
            within: Within::Nothing,
            held: None,
            opened: Instant::now(),
            open_rows: 0,
            ask_after: ASK_MIN,
            done: Applied {
                position,
                told: position,
                ..Applied::default()
            },
            touched: None,
            only: None,
            lightly: false,
            is_in_the_air: false,
            doubtful: false,
        })
    }

    /// What it applies.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What was done so far.
    pub fn applied(&self) -> Applied {
        self.done
    }

    /// Brings the changes of what is there of a copy and leaves out all others: whoever asks for it, before the first run, copies the
    /// rest from a later moment. Of a table that was begun, a row whose key moves comes or goes as it crosses the last key.
    pub fn only(&mut self, kept: &Kept) {
        let begun = kept.begun.iter();
        let begun = begun.map(|begun| (begun.copied.table.clone(), Some(begun.last.clone())));
        let whole = kept.whole.iter().map(|copied| (copied.table.clone(), None));
        self.only = Some(begun.chain(whole).collect());
    }

    /// From now on it is not waited for that what it commits is on the target's disk: whoever relies on it calls
    /// [`make_lasting`](crate::transfer::make_lasting) before. The source is not told of it, and keeps the changes: a target that crashed has its
    /// rows and their position from before, and another applier goes on there.
    pub fn lightly(&mut self) {
        self.lightly = true;
    }

    /// Keeps from now on which rows are written, and forgets those of before.
    pub fn track(&mut self) {
        self.touched = Some(Touched::default());
    }

    /// Keeps no longer which rows are written.
    pub fn untrack(&mut self) {
        self.touched = None;
    }

    /// The rows that were written since [`Self::track`]; `None` where that was not asked for.
    pub fn touched(&self) -> Option<&Touched> {
        self.touched.as_ref()
    }

    /// Applies the source's transactions up to a point, and commits them.
    ///
    /// # Errors
    ///
    /// After any of them another applier has to be started; [`StreamError`] says whether that helps.
    ///
    /// # Cancel safety
    ///
    /// Dropped, nothing is half done at the target, and this applier is not usable any more: start another one.
    pub async fn run(&mut self, until: &Until) -> Result<Applied, StreamError> {
        if self.doubtful {
            return Err(StreamError::Abandoned);
        }
        self.doubtful = true;
        self.go(until).await?;
        self.doubtful = false;
        Ok(self.done)
    }

    /// Tells the source how far the target is and leaves the slot to others.
    ///
    /// # Cancel safety
    ///
    /// Dropped, both connections are closed.
    pub async fn stop(self) {
        self.stream.end().await;
    }

    async fn go(&mut self, until: &Until) -> Result<(), StreamError> {
        self.ask_after = ASK_MIN;
        loop {
            // A point that was passed between two runs.
            if self.within == Within::Nothing && self.is_past(until) {
                return self.commit().await;
            }
            let message = match self.held.take() {
                Some(message) => message,
                None => match self.next().await? {
                    Some(body) => Message::decode(body)?,
                    None => continue,
                },
            };
            let beyond = self.is_beyond(&message, until);
            if beyond || is_marker(&message, until) {
                self.held = Some(message).filter(|_| beyond);
                self.done.told = self.done.told.max(until.point());
                return self.commit().await;
            }
            self.take(message).await?;
        }
    }

    /// Whether the source has told everything before the point.
    fn is_past(&self, until: &Until) -> bool {
        self.held.is_none() && self.done.told >= until.point()
    }

    /// The next message of the plugin, `None` for a keep-alive. What waits at the target is committed before we wait here.
    async fn next(&mut self) -> Result<Option<Bytes>, StreamError> {
        let feed = match self.stream.next().now_or_never() {
            Some(feed) => feed,
            None => {
                if self.within == Within::Nothing {
                    self.commit().await?;
                }
                match tokio::time::timeout(self.ask_after, self.stream.next()).await {
                    Ok(feed) => feed,
                    Err(_) => {
                        self.ask_after = (self.ask_after * 2).min(ASK_MAX);
                        self.stream
                            .report(true)
                            .await
                            .at_source("report how far the stream is")?;
                        return Ok(None);
                    }
                }
            }
        };
        match feed.at_source("read the change stream")? {
            Feed::Data { body, .. } => {
                self.ask_after = ASK_MIN;
                Ok(Some(body))
            }
            Feed::KeepAlive { end } => {
                // Between transactions, all that was committed before has been told.
                if self.within == Within::Nothing {
                    self.done.told = self.done.told.max(end);
                }
                Ok(None)
            }
        }
    }

    /// Whether a transaction begins that belongs behind the point.
    fn is_beyond(&self, message: &Message, until: &Until) -> bool {
        matches!(message, Message::Begin { commit, .. } if *commit >= until.point())
    }

    async fn take(&mut self, message: Message) -> Result<(), StreamError> {
        match message {
            Message::Begin { commit, .. } => {
                self.within = match commit < self.position {
                    true => Within::Known,
                    false => Within::New,
                };
                Ok(())
            }
            Message::Commit { end, .. } => self.end_transaction(end).await,
            Message::Type { oid, name, .. } => {
                self.types.insert(oid, name);
                Ok(())
            }
            Message::Relation(relation) => {
                // A transaction that is known may be of a structure from before the one that the target has.
                if relation.schema != self.plan.source_schema {
                    return Err(StreamError::Structure {
                        table: relation.name,
                        what: format!("is in the schema `{}`", relation.schema),
                    });
                }
                let mut table = self.targets.table(&relation, &self.types)?;
                if let Some(Some(last)) = self.only.as_ref().and_then(|only| only.get(&table.name)) {
                    table.bound = Some(self.targets.bound(&table, relation.identity, last)?);
                }
                self.batch.forget(relation.id);
                self.tables.insert(relation.id, Arc::new(table));
                Ok(())
            }
            Message::Truncate { relations, .. } if self.within == Within::New => Err(StreamError::Truncated {
                table: relations
                    .first()
                    .and_then(|relation| self.tables.get(relation))
                    .map_or_else(String::new, |table| table.name.clone()),
            }),
            change @ (Message::Insert { .. } | Message::Update { .. } | Message::Delete { .. })
                if self.within == Within::New =>
            {
                self.change(change).await
            }
            // Rows that the target has, where transactions came from, messages of others.
            _ => Ok(()),
        }
    }

    async fn change(&mut self, change: Message) -> Result<(), StreamError> {
        let (relation, table) = self.table(&change)?;
        if self.only.as_ref().is_some_and(|only| !only.contains_key(&table.name)) {
            return Ok(());
        }
        if self.open_rows == 0 {
            self.opened = Instant::now();
        }
        self.open_rows += 1;
        self.done.rows += 1;
        let Some(change) = self.as_far_as_it_is_there(relation, &table, change).await? else {
            return Ok(());
        };
        if let Some(touched) = &mut self.touched {
            match &change {
                Message::Insert { new, .. } => touched.note(&table, new, None, 1)?,
                Message::Update { old, new, .. } => {
                    let old = old.as_ref().map(Old::tuple);
                    touched.note(&table, new, old, 0)?;
                    // Where the key changed, it was another row.
                    if let Some(old) = old {
                        touched.note(&table, old, None, 0)?;
                    }
                }
                Message::Delete { old, .. } => touched.note(&table, old.tuple(), None, -1)?,
                _ => {}
            }
        }
        match change {
            Message::Insert { new, .. } => {
                let values = self.rows.insert(&table, &new)?;
                alive(&mut self.stream, self.batch.insert(relation, &table, values)).await
            }
            Message::Update { old, new, .. } => match self.rows.update(&table, old.as_ref(), &new)? {
                Some((shape, values)) => {
                    alive(&mut self.stream, self.batch.update(relation, &table, shape, values)).await
                }
                None => Ok(()),
            },
            Message::Delete { old, .. } => {
                let values = self.rows.delete(&table, &old)?;
                alive(&mut self.stream, self.batch.delete(relation, &table, values)).await
            }
            _ => Ok(()),
        }
    }

    /// What a change is to a table that is there up to a key. The others' are what they are, and so are those of rows that stay where they
    /// are: their statements leave out what is beyond.
    async fn as_far_as_it_is_there(
        &mut self,
        relation: u32,
        table: &Arc<Table>,
        change: Message,
    ) -> Result<Option<Message>, StreamError> {
        let (old, new) = match change {
            Message::Update {
                old: Some(old), new, ..
            } => (old, new),
            other => return Ok(Some(other)),
        };
        let are_there = match self.rows.moved(table, &old, &new)? {
            Some(keys) => alive(&mut self.stream, self.batch.are_there(relation, table, keys)).await?,
            None => (true, true),
        };
        Ok(match are_there {
            (true, true) => Some(Message::Update {
                relation,
                old: Some(old),
                new,
            }),
            (true, false) => Some(Message::Delete { relation, old }),
            (false, true) => Some(Message::Insert { relation, new }),
            (false, false) => None,
        })
    }

    fn table(&self, change: &Message) -> Result<(u32, Arc<Table>), StreamError> {
        let relation = match change {
            Message::Insert { relation, .. } | Message::Update { relation, .. } | Message::Delete { relation, .. } => {
                *relation
            }
            _ => 0,
        };
        match self.tables.get(&relation) {
            Some(table) => Ok((relation, Arc::clone(table))),
            None => Err(StreamError::Structure {
                table: relation.to_string(),
                what: "was never described".to_owned(),
            }),
        }
    }

    async fn end_transaction(&mut self, end: Lsn) -> Result<(), StreamError> {
        if self.within == Within::New {
            self.done.transactions += 1;
            self.reached = self.reached.max(end);
        }
        self.within = Within::Nothing;
        self.done.told = self.done.told.max(end);
        match self.open_rows >= ROWS_MAX || self.open_rows > 0 && self.opened.elapsed() >= OPEN_MAX {
            true => self.commit().await,
            false => Ok(()),
        }
    }

    /// Commits what the source's transactions so far did, with their position.
    async fn commit(&mut self) -> Result<(), StreamError> {
        if self.open_rows > 0 {
            let (from, to) = (self.position, self.reached);
            let commit = self.batch.commit(&self.plan.name, (from, to), self.lightly);
            alive(&mut self.stream, commit).await?;
            self.is_in_the_air = self.lightly;
            self.position = to;
            self.open_rows = 0;
            self.done.commits += 1;
        }
        self.done.position = self.done.told.max(self.position);
        // What the target may still lose the source has to keep.
        if self.is_in_the_air {
            return Ok(());
        }
        // Nothing is open, so that whatever was told has taken effect or is none of ours: the source need not keep it.
        let confirmed = self.stream.confirmed();
        self.stream.confirm(self.done.position);
        match self.stream.confirmed() > confirmed {
            true => self
                .stream
                .report(false)
                .await
                .at_source("report how far the stream is"),
            false => Ok(()),
        }
    }
}

impl std::fmt::Debug for Applier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Applier")
            .field("plan", &self.plan)
            .field("applied", &self.done)
            .field("doubtful", &self.doubtful)
            .finish_non_exhaustive()
    }
}

fn is_marker(message: &Message, until: &Until) -> bool {
    match (message, until) {
        (
            Message::Logical {
                transactional: false,
                prefix,
                content,
                ..
            },
            Until::Marker(marker),
        ) => prefix == marker::PREFIX && *content == marker.content.as_bytes(),
        _ => false,
    }
}

/// Works at the target; the source hears of us meanwhile.
async fn alive<T>(
    stream: &mut ChangeStream,
    work: impl Future<Output = Result<T, StreamError>>,
) -> Result<T, StreamError> {
    let mut work = pin!(work);
    loop {
        // A time-out only borrows the work, which goes on with the next round.
        match tokio::time::timeout(HEARTBEAT, work.as_mut()).await {
            Ok(done) => return done,
            Err(_) => stream.report(false).await.at_source("report how far the stream is")?,
        }
    }
}

/// Values are read as the source writes them; triggers, whose effects the rows already show, don't run; rows that row security
/// would hide are an error.
async fn prepare(target: &Client, schema: &str) -> Result<(), SqlError> {
    target
        .batch_execute(
            "set datestyle = 'iso, ymd'; set intervalstyle = 'postgres'; set timezone = 'UTC';
             -- What the source was told of is never taken back, also where the server's commits are not waited for.
             select pg_catalog.set_config('synchronous_commit', 'local', false)
              where pg_catalog.current_setting('synchronous_commit') = 'off';
             set row_security = off; set statement_timeout = 0; set idle_in_transaction_session_timeout = 0;
             set session_replication_role = replica",
        )
        .await
        .doing("prepare the target's session (its role has to be allowed to set session_replication_role)")?;
    target
        .execute(
            "select pg_catalog.set_config('search_path', pg_catalog.quote_ident($1) || ', tenantry_ext', false)",
            &[&schema],
        )
        .await
        .doing("set the search path")?;
    Ok(())
}

/// One applies a stream at a time. One that died may have sent a commit that is not done yet: it is over when its session is.
async fn hold_alone(target: &Client, name: &StreamName) -> Result<(), StreamError> {
    let began = Instant::now();
    loop {
        let row = target
            .query_one(
                "select pg_catalog.pg_try_advisory_lock(pg_catalog.hashtextextended($1, 0))",
                &[&name.text()],
            )
            .await
            .doing("ask whether another process applies the stream")?;
        if row.get(0) {
            return Ok(());
        }
        if began.elapsed() >= BUSY_MAX {
            return Err(StreamError::Superseded);
        }
        tokio::time::sleep(BUSY_PAUSE).await;
    }
}

async fn start_stream(source: Arc<Endpoint>, name: &StreamName, from: Lsn) -> Result<ChangeStream, StreamError> {
    let began = Instant::now();
    let text = name.text();
    loop {
        let replication = Replication::connect(Arc::clone(&source), "tenantry move")
            .await
            .at_source("open a replication connection")?;
        match replication.start(&text, &text, from).await {
            Ok(stream) => return Ok(stream),
            Err(error) if error.code() == Some("55006") && began.elapsed() < BUSY_MAX => {
                tokio::time::sleep(BUSY_PAUSE).await;
            }
            Err(error) if matches!(error.code(), Some("42704" | "55000")) => {
                return Err(StreamError::SlotLost {
                    reason: error.to_string(),
                });
            }
            Err(error) => return Err(error).at_source("start the change stream"),
        }
    }
}
