//! A connection with its binding: which tenant it serves, and what each call has to say for it.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use tenantry_core::{
    AccountId, Epoch, Role, TenantId, Tier,
    seal::{self, Place},
};

use crate::{
    Column, Connection, Error, Outcome, Params, Row, TransactionStatus,
    admit::{admit, admit_copy, leaves_traces},
    lead::{Ahead, Begin, Enter, Fixed, Lead},
    statement::Statement,
};

/// For whom a call is made, and how its session is bound.
#[derive(Clone, Copy, Debug)]
pub struct Binding<'a> {
    /// Whose rows.
    pub tenant: TenantId,
    /// With which rights.
    pub role: Role,
    /// The placement the caller believes in.
    pub epoch: Epoch,
    /// The account that acts, if a person does.
    pub account: Option<AccountId>,
    /// The same as text, empty for nobody, made once by the caller.
    pub account_text: &'a str,
    /// The schema that names are resolved in: statements are kept apart by it.
    pub schema: &'a Arc<str>,
    /// The whole search path that goes with it.
    pub search_path: &'a str,
    /// Signs the token.
    pub key: &'a seal::Key,
    /// How the database proves a context.
    pub tier: Tier,
    /// The transaction may only read, wherever it runs.
    pub read_only: bool,
}

/// A connection with its binding.
///
/// A call on a session that is bound to its tenant states the expected seal and runs the statement; on any other it
/// binds the session first. Both happen under the statement's own Sync.
#[derive(Debug)]
pub struct Session {
    connection: Connection,
    /// Where its backend runs: tokens are made for it.
    place: Place,
    /// What the carrier holds, as far as transactions that took effect have set it.
    bound: Option<Bound>,
    /// What it holds when the call in progress takes effect.
    binding: Option<Bound>,
    /// The carrier was never set: the first token has to say so.
    fresh: bool,
    counter: u64,
    /// BEGIN goes out with the first statement.
    opening: bool,
    /// A statement may have left something in the session that is not its tenant's alone.
    tainted: bool,
}

#[derive(Clone, Debug)]
struct Bound {
    tenant: TenantId,
    role: Role,
    epoch: Epoch,
    schema: Arc<str>,
    counter: u64,
    seal: String,
}

/// A token that the call in hand brings along.
struct Entering {
    signed: seal::Signed,
    bound: Bound,
}

impl Bound {
    fn serves(&self, binding: &Binding<'_>) -> bool {
        self.tenant == binding.tenant && self.role == binding.role && self.epoch == binding.epoch
    }
}

impl Session {
    /// A session on a new connection, bound to nobody.
    pub fn new(connection: Connection) -> Self {
        Self {
            connection,
            place: Place::PRIMARY,
            bound: None,
            binding: None,
            fresh: true,
            counter: 0,
            opening: false,
            tainted: false,
        }
    }

    /// The same on a standby.
    #[must_use]
    pub fn at(self, place: Place) -> Self {
        Self { place, ..self }
    }

    /// Where its backend runs.
    pub fn place(&self) -> Place {
        self.place
    }

    /// The connection, for what needs no context.
    pub fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// Whether no call is in progress and no transaction open.
    pub fn is_idle(&self) -> bool {
        self.connection.is_idle()
    }

    /// Whether the session can serve somebody else: it is idle, and nothing was left in it.
    pub fn is_clean(&self) -> bool {
        self.is_idle() && !self.tainted && !self.opening
    }

    /// A transaction that [`begin`](Self::begin) was to open, and of which nothing was sent, is not opened any more. Otherwise whoever
    /// calls next would be in it, and nobody would commit what they write.
    pub fn forget_begin(&mut self) {
        self.opening = false;
    }

    /// From here on the session serves nobody else: it behaves as if something was left in it.
    pub fn taint(&mut self) {
        self.tainted = true;
    }

    /// Whether the session is bound as the call needs it.
    pub fn serves(&self, binding: &Binding<'_>) -> bool {
        self.bound.as_ref().is_some_and(|bound| bound.serves(binding))
    }

    /// Whether the session is bound to anybody.
    pub fn is_bound(&self) -> bool {
        self.bound.is_some()
    }

    /// Forgets the binding, so that the next call binds anew: the fence has closed on it.
    pub fn unbind(&mut self) {
        self.bound = None;
    }

    /// Says good-bye to the server, without waiting, and closes the socket.
    pub fn terminate(self) {
        self.connection.terminate();
    }

    /// Says good-bye, and waits until the server has ended its side; see [`Connection::end`].
    pub async fn end(self) {
        self.connection.end().await;
    }

    /// Runs a statement to its end.
    ///
    /// A statement that a change of the schema made stale is prepared anew and run again, once, when nothing took
    /// effect.
    ///
    /// # Errors
    ///
    /// [`Error::Database`] when PostgreSQL refuses it; others as their text says.
    ///
    /// # Cancel safety
    ///
    /// When dropped, the session is no longer [idle](Self::is_idle), and whoever holds it closes it.
    pub async fn query(&mut self, binding: &Binding<'_>, sql: &str, params: Params<'_>) -> Result<Outcome, Error> {
        self.query_after(binding, &[], sql, params).await
    }

    /// The same after other calls, under one Sync: outside of a transaction all of them take effect together.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query); the first error is the call's, whosever it is.
    ///
    /// # Cancel safety
    ///
    /// As [`query`](Self::query).
    pub async fn query_after(
        &mut self,
        binding: &Binding<'_>,
        ahead: &[Ahead],
        sql: &str,
        params: Params<'_>,
    ) -> Result<Outcome, Error> {
        let Some(statement) = self.connection.statements.get(binding.schema, sql) else {
            // What is rare is boxed throughout, so that the usual call's future stays small.
            return Box::pin(self.query_new(binding, ahead, sql, params)).await;
        };
        match self.run(binding, ahead, &statement, params).await {
            Err(error) if self.forget_if_stale(binding, sql, &error) => {
                let result = Box::pin(self.query_new(binding, ahead, sql, params)).await;
                // It ran here before: either a migration took away what it needs, or SQL changed the search path.
                self.tainted |= result.as_ref().is_err_and(is_stale);
                result
            }
            result => result,
        }
    }

    async fn query_new(
        &mut self,
        binding: &Binding<'_>,
        ahead: &[Ahead],
        sql: &str,
        params: Params<'_>,
    ) -> Result<Outcome, Error> {
        admit(sql)?;
        let statement = self.prepare(binding, sql).await?;
        self.run(binding, ahead, &statement, params).await
    }

    /// Runs calls of the mechanism's own and nothing else.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query).
    ///
    /// # Cancel safety
    ///
    /// As [`query`](Self::query).
    pub async fn run_ahead(&mut self, binding: &Binding<'_>, ahead: &[Ahead]) -> Result<(), Error> {
        self.start_ahead(binding, ahead, None).await?;
        while self.next_message().await?.is_some() {}
        Ok(())
    }

    async fn start_ahead(&mut self, binding: &Binding<'_>, ahead: &[Ahead], last: Option<Fixed>) -> Result<(), Error> {
        if self.opening && binding.tier == Tier::Signed && !self.connection.pooled {
            Box::pin(self.bind_ahead(binding)).await?;
        }
        let entering = self.entering(binding);
        let lead = lead(&self.connection, &self.bound, self.opening, binding, entering.as_ref());
        debug_assert!(
            self.is_spoken_for(binding, &lead),
            "B1: a statement goes out without its context"
        );
        self.connection.start_ahead(&lead, ahead, last).await?;
        self.started(entering);
        Ok(())
    }

    /// Starts a statement whose rows are then read one by one with [`next_row`](Self::next_row).
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query).
    pub async fn stream(&mut self, binding: &Binding<'_>, sql: &str, params: Params<'_>) -> Result<RowReader, Error> {
        let (statement, cached) = self.statement(binding, sql).await?;
        match self.first_row(binding, statement, params).await {
            Err(error) if cached && self.forget_if_stale(binding, sql, &error) => {
                let statement = self.prepare(binding, sql).await?;
                self.first_row(binding, statement, params).await
            }
            result => result,
        }
    }

    async fn first_row(
        &mut self,
        binding: &Binding<'_>,
        statement: Arc<Statement>,
        params: Params<'_>,
    ) -> Result<RowReader, Error> {
        self.start(binding, &[], &statement, params).await?;
        let first = self.next_message().await?;
        Ok(RowReader {
            columns: statement.columns.clone(),
            ended: first.is_none(),
            first,
        })
    }

    /// The next row of a stream, read from the socket only when it is asked for; `None` at the end.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query).
    pub async fn next_row(&mut self, reader: &mut RowReader) -> Result<Option<Row>, Error> {
        let body = match reader.first.take() {
            Some(first) => Some(first),
            None if reader.ended => None,
            None => self.next_message().await?,
        };
        reader.ended = body.is_none();
        Ok(body.map(|body| Row::new(reader.columns.clone(), body)))
    }

    /// Starts `copy … to stdout`; the data is then read with [`next_chunk`](Self::next_chunk).
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query).
    pub async fn copy_out(&mut self, binding: &Binding<'_>, sql: &str) -> Result<(), Error> {
        admit_copy(sql)?;
        self.tainted |= leaves_traces(sql);
        self.bind_ahead(binding).await?;
        let entering = self.entering(binding);
        let lead = lead(&self.connection, &self.bound, self.opening, binding, entering.as_ref());
        debug_assert!(
            self.is_spoken_for(binding, &lead),
            "B1: a statement goes out without its context"
        );
        self.connection.start_copy(&lead, sql).await?;
        self.started(entering);
        Ok(())
    }

    /// The next piece of a COPY; `None` at the end.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query).
    pub async fn next_chunk(&mut self) -> Result<Option<Bytes>, Error> {
        self.next_message().await
    }

    /// Opens a transaction with the next statement: BEGIN and the context travel with it.
    pub fn begin(&mut self) {
        self.opening = true;
    }

    /// Whether a transaction was begun and has not ended.
    pub fn in_transaction(&self) -> bool {
        self.opening || self.connection.status() != TransactionStatus::Idle
    }

    /// Keeps what the transaction did.
    ///
    /// # Errors
    ///
    /// [`Error::TransactionFailed`] when a statement in it failed: everything is undone then, as PostgreSQL does.
    pub async fn commit(&mut self) -> Result<(), Error> {
        if std::mem::take(&mut self.opening) {
            return Ok(());
        }
        if self.connection.status() == TransactionStatus::Failed {
            self.connection.run_fixed(Fixed::Rollback).await?;
            return Err(Error::TransactionFailed);
        }
        self.connection.run_fixed(Fixed::Commit).await
    }

    /// The same after calls of the mechanism's own, under the commit's Sync.
    ///
    /// # Errors
    ///
    /// As [`commit`](Self::commit); where one of the calls fails, everything is undone and its error told.
    ///
    /// # Cancel safety
    ///
    /// As [`query`](Self::query): dropped, it is not known whether the transaction was kept.
    pub async fn commit_after(&mut self, binding: &Binding<'_>, ahead: &[Ahead]) -> Result<(), Error> {
        if ahead.is_empty() || self.connection.status() == TransactionStatus::Failed {
            return self.commit().await;
        }
        self.start_ahead(binding, ahead, Some(Fixed::Commit)).await?;
        let done = loop {
            match self.next_message().await {
                Ok(Some(_)) => {}
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        if done.is_err() && self.connection.is_usable() && self.connection.status() == TransactionStatus::Failed {
            self.connection.run_fixed(Fixed::Rollback).await?;
        }
        done
    }

    /// Undoes what the transaction did.
    ///
    /// # Errors
    ///
    /// When the connection fails.
    pub async fn rollback(&mut self) -> Result<(), Error> {
        if std::mem::take(&mut self.opening) {
            return Ok(());
        }
        self.connection.run_fixed(Fixed::Rollback).await
    }

    /// Marks or ends a part of the transaction that can be undone by itself. What goes ahead stands before the mark, or belongs to
    /// the part that ends.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query).
    pub async fn savepoint(
        &mut self,
        binding: &Binding<'_>,
        ahead: &[Ahead],
        step: Savepoint,
        depth: u32,
    ) -> Result<(), Error> {
        let sql = match step {
            Savepoint::Set => format!("savepoint tenantry_{depth}"),
            Savepoint::Release => format!("release savepoint tenantry_{depth}"),
            Savepoint::Undo => format!("rollback to savepoint tenantry_{depth}"),
        };
        let statement = match self.connection.statements.get(binding.schema, &sql) {
            Some(statement) => statement,
            None => self.prepare(binding, &sql).await?,
        };
        self.run(binding, ahead, &statement, &[]).await.map(|_| ())
    }

    async fn statement(&mut self, binding: &Binding<'_>, sql: &str) -> Result<(Arc<Statement>, bool), Error> {
        if let Some(statement) = self.connection.statements.get(binding.schema, sql) {
            return Ok((statement, true));
        }
        admit(sql)?;
        Ok((self.prepare(binding, sql).await?, false))
    }

    /// Prepares a statement. Names are resolved in the tenant's schema, so a session that is not bound is bound with it.
    async fn prepare(&mut self, binding: &Binding<'_>, sql: &str) -> Result<Arc<Statement>, Error> {
        let entering = self.entering(binding);
        // A transaction is opened by its first statement, not by the preparation, which may have to be repeated.
        let lead = Lead {
            enter: entering
                .as_ref()
                .map(|entering| enter(&self.connection, &self.bound, binding, entering)),
            ..Lead::default()
        };
        let statement = self.connection.prepare(&lead, binding.schema, sql).await?;
        if let Some(entering) = entering {
            self.bind(entering.bound);
        }
        Ok(statement)
    }

    /// Gives up a statement and every type that was looked up, when the error may come from a change of the schema.
    /// Whether the call can be repeated: nothing took effect, and no transaction has to be begun again for it.
    fn forget_if_stale(&mut self, binding: &Binding<'_>, sql: &str, error: &Error) -> bool {
        if !is_stale(error) {
            return false;
        }
        if let Some(stale) = self.connection.statements.remove(binding.schema, sql) {
            self.connection.closing.push(stale);
        }
        self.connection.types.clear();
        self.connection.is_idle()
    }

    async fn run(
        &mut self,
        binding: &Binding<'_>,
        ahead: &[Ahead],
        statement: &Statement,
        params: Params<'_>,
    ) -> Result<Outcome, Error> {
        self.start(binding, ahead, statement, params).await?;
        let mut rows = Vec::new();
        while let Some(body) = self.next_message().await? {
            rows.push(Row::new(statement.columns.clone(), body));
        }
        Ok(Outcome {
            rows,
            affected: self.connection.call.affected,
        })
    }

    async fn start(
        &mut self,
        binding: &Binding<'_>,
        ahead: &[Ahead],
        statement: &Statement,
        params: Params<'_>,
    ) -> Result<(), Error> {
        if self.opening && binding.tier == Tier::Signed && !self.connection.pooled {
            Box::pin(self.bind_ahead(binding)).await?;
        }
        self.tainted |= statement.leaves_traces;
        let entering = self.entering(binding);
        let lead = lead(&self.connection, &self.bound, self.opening, binding, entering.as_ref());
        debug_assert!(
            self.is_spoken_for(binding, &lead),
            "B1: a statement goes out without its context"
        );
        self.connection.start(&lead, ahead, statement, params).await?;
        self.started(entering);
        Ok(())
    }

    /// In the signed tier a transaction binds inside of itself, and undoing it would undo what the session has to keep:
    /// the last counter and the search path. Where one of these is new, it is set ahead, in a round trip of its own.
    async fn bind_ahead(&mut self, binding: &Binding<'_>) -> Result<(), Error> {
        let path_holds = path_holds(&self.bound, binding.tenant, binding.schema);
        if !self.opening || binding.tier != Tier::Signed || self.connection.pooled || (path_holds && !self.fresh) {
            return Ok(());
        }
        if let Some(entering) = self.entering(binding) {
            let lead = Lead {
                enter: Some(enter(&self.connection, &self.bound, binding, &entering)),
                ..Lead::default()
            };
            self.connection.run_lead(&lead).await?;
            self.bind(entering.bound);
        }
        Ok(())
    }

    fn started(&mut self, entering: Option<Entering>) {
        self.opening = false;
        self.binding = entering.map(|entering| entering.bound);
    }

    /// Reads on; at the end of the call, the binding holds if its transaction did.
    async fn next_message(&mut self) -> Result<Option<Bytes>, Error> {
        let result = self.connection.next().await;
        let held = match &result {
            Ok(Some(_)) => return result,
            Ok(None) => true,
            Err(_) => self.connection.call.first_sync_held,
        };
        if let Some(bound) = self.binding.take().filter(|_| held) {
            self.bind(bound);
        }
        result
    }

    /// B1: what goes out is bound to the call's tenant and role and states its expectation, or stands in a transaction that
    /// began so.
    fn is_spoken_for(&self, binding: &Binding<'_>, lead: &Lead<'_>) -> bool {
        match self.connection.status() {
            TransactionStatus::Idle => lead.enter.is_some() || (lead.expect.is_some() && self.serves(binding)),
            TransactionStatus::Open => self.serves(binding),
            // PostgreSQL runs nothing in it before a rollback.
            TransactionStatus::Failed => true,
        }
    }

    fn bind(&mut self, bound: Bound) {
        debug_assert!(
            self.bound.as_ref().is_none_or(|old| old.counter < bound.counter),
            "B3: a counter did not grow"
        );
        self.bound = Some(bound);
        self.fresh = false;
    }

    /// A token, where the call has to bind the session: not inside of a transaction, and not when it is bound already.
    fn entering(&mut self, binding: &Binding<'_>) -> Option<Entering> {
        let bound = binding.tier == Tier::Sealed && !self.connection.pooled && self.serves(binding);
        if bound || self.connection.status() != TransactionStatus::Idle {
            return None;
        }
        self.counter += 1;
        let now_us = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_micros() as i64);
        let signed = binding.key.sign_at(
            &seal::Token {
                tenant: binding.tenant,
                counter: self.counter,
                fresh: self.fresh,
                raw: false,
                role: binding.role,
                now_us,
                // Nobody knows whose session the pooler will lend.
                backend_pid: if self.connection.pooled {
                    0
                } else {
                    self.connection.process_id()
                },
                account: binding.account,
                epoch: binding.epoch,
            },
            self.place,
        );
        let bound = Bound {
            tenant: binding.tenant,
            role: binding.role,
            epoch: binding.epoch,
            schema: binding.schema.clone(),
            counter: self.counter,
            seal: signed.seal(),
        };
        Some(Entering { signed, bound })
    }
}

/// What goes before a statement: nothing inside of a transaction, else the binding or the expectation.
fn lead<'a>(
    connection: &Connection,
    bound: &'a Option<Bound>,
    opening: bool,
    binding: &Binding<'a>,
    entering: Option<&'a Entering>,
) -> Lead<'a> {
    if connection.status() != TransactionStatus::Idle {
        return Lead::default();
    }
    let begin = match (opening, binding.tier) {
        (false, _) => Begin::No,
        // What holds for a transaction is said in it.
        (true, _) if connection.pooled => Begin::BeforeEnter,
        (true, Tier::Sealed) => Begin::AfterEnter,
        (true, Tier::Signed) => Begin::BeforeEnter,
    };
    // `enter` opens its own transaction; one that is begun after it, and every later one, states what it expects.
    let expect = match (entering, begin) {
        (Some(entering), Begin::AfterEnter) => Some(entering.bound.seal.as_str()),
        (Some(_), _) => None,
        (None, _) => bound.as_ref().map(|bound| bound.seal.as_str()),
    };
    Lead {
        enter: entering.map(|entering| enter(connection, bound, binding, entering)),
        begin,
        expect,
        account: binding.account_text,
        read_only: binding.read_only,
    }
}

fn enter<'a>(
    connection: &Connection,
    bound: &Option<Bound>,
    binding: &Binding<'a>,
    entering: &'a Entering,
) -> Enter<'a> {
    let path_holds = !connection.pooled && path_holds(bound, entering.bound.tenant, &entering.bound.schema);
    Enter {
        message: &entering.signed.message,
        mac: &entering.signed.mac,
        search_path: (!path_holds).then_some(binding.search_path),
    }
}

/// Whether the search path is what the binding needs. For another tenant it is set anew though it is the same: SQL that hides
/// its `set_config` from [`crate::admit`] could have pointed it at a third tenant's schema, where the next one's rows would
/// then be written, and servers before PostgreSQL 18 do not report that it changed.
fn path_holds(bound: &Option<Bound>, tenant: TenantId, schema: &str) -> bool {
    bound
        .as_ref()
        .is_some_and(|bound| bound.tenant == tenant && *bound.schema == *schema)
}

/// Whether a change of the schema since the statement was prepared may be the cause: a plan that would give other
/// types, names or types that are gone, a parameter whose type has changed. Missing rights are none of that.
pub fn is_stale(error: &Error) -> bool {
    match error {
        Error::Parameter { .. } => true,
        Error::Database(error) => match error.code() {
            "0A000" => error.message().starts_with("cached plan"),
            "XX000" => error.message().starts_with("cache lookup failed"),
            "42501" => false,
            code => code.starts_with("42"),
        },
        _ => false,
    }
}

/// A step in a transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Savepoint {
    /// Marks where to go back to.
    Set,
    /// Keeps what was done since.
    Release,
    /// Undoes what was done since.
    Undo,
}

/// Where a stream of rows stands.
#[derive(Debug)]
pub struct RowReader {
    columns: Arc<[Column]>,
    first: Option<Bytes>,
    ended: bool,
}
