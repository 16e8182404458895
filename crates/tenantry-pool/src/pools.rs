//! All pools of a process, and calls by way of them.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use tenantry_core::{AccountId, Context, Placement, Role, ServerId, TenantDatabaseId, TenantId};
use tenantry_wire::{Ahead, Outcome, Params};
use tokio::sync::Notify;

use crate::{
    Error, Grant, LocateError, PlacementSource, PoolConfig, PoolStatus, RowStream, ServerStatus, Transaction,
    copy::CopyOut,
    counts,
    member::Lease,
    placements::{Located, Memo, Placements},
    replica::ReplicaStatus,
    shares::{self, ShareSource},
    slow,
    timer::Timer,
    waiting::{Turn, Waiting},
    written::Written,
};

/// How long a call waits before it tries a refused password, or what has taken its place by then, once more.
const PASSWORD_WAIT: Duration = Duration::from_millis(200);
/// How often a call asks anew because the way to its database changed while it waited.
const READDRESSED_MAX: u32 = 8;
/// How often a call begins again whose session was ended: SQL may end its own, and is not to cost many connections.
const ENDED_MAX: u32 = 2;

/// For whom a call is made.
pub struct Caller {
    pub(crate) tenant: TenantId,
    pub(crate) role: Role,
    pub(crate) account: Option<AccountId>,
    pub(crate) account_text: String,
    /// When it may have written for the last time, for reads from replicas.
    pub(crate) written: Arc<Written>,
    /// Where the tenant lived at the last call.
    pub(crate) memo: Mutex<Option<Memo>>,
}

impl Caller {
    /// The caller that a context names. Who makes one has checked the context.
    pub fn new(context: &Context) -> Self {
        let account = context.account();
        Self {
            tenant: context.tenant,
            role: context.role,
            account,
            account_text: account.map_or_else(String::new, |account| account.to_string()),
            written: Arc::default(),
            memo: Mutex::new(None),
        }
    }

    /// A caller with other rights, which reads what this one has written.
    #[must_use]
    pub fn beside(&self, context: &Context) -> Self {
        Self {
            written: self.written.clone(),
            ..Self::new(context)
        }
    }
}

/// All pools of a process: cheap to clone.
#[derive(Clone)]
pub struct Pools {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) placements: Placements,
    pub(crate) config: Arc<PoolConfig>,
    pub(crate) closing: Closing,
    waiting: Waiting,
}

/// How far the end of all pools is.
#[derive(Default)]
pub(crate) struct Closing {
    pub(crate) asked: AtomicBool,
    pub(crate) is_done: AtomicBool,
    pub(crate) done: Notify,
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Who keeps the shares notices that nobody needs them any more.
        self.placements.news.notify_one();
    }
}

impl Pools {
    /// Pools that ask `source` where tenants live, with as many connections to each server as the configuration says.
    pub fn new(source: Arc<dyn PlacementSource>, config: PoolConfig) -> Self {
        Self::make(source, config, false)
    }

    /// Pools that share the connections to each server with other processes, as `shares` says. Needs a runtime.
    pub fn with_shares(source: Arc<dyn PlacementSource>, config: PoolConfig, shares: Arc<dyn ShareSource>) -> Self {
        let pools = Self::make(source, config, true);
        shares::keep(&pools.shared, shares);
        pools
    }

    fn make(source: Arc<dyn PlacementSource>, config: PoolConfig, budgeted: bool) -> Self {
        let config = Arc::new(config);
        Self {
            shared: Arc::new(Shared {
                placements: Placements::new(source, config.clone(), budgeted),
                config,
                closing: Closing::default(),
                waiting: Waiting::default(),
            }),
        }
    }

    /// Looks at the shares of servers' connections now: called when other processes come and go.
    pub fn divide_anew(&self) {
        self.shared.placements.news.notify_one();
    }

    /// Closes all connections and gives back this process's shares. What is in use may end before, for as long as a lease of a
    /// share lasts.
    ///
    /// # Cancel safety
    ///
    /// What was begun goes on when dropped.
    pub async fn close(&self) {
        let mut done = pin!(self.shared.closing.done.notified());
        // From here on a ring is heard.
        done.as_mut().enable();
        if self.shared.closing.is_done.load(Ordering::Acquire) {
            return;
        }
        self.shared.closing.asked.store(true, Ordering::Release);
        let servers = self.shared.placements.servers();
        for (_, server) in &servers {
            server.set_share(0);
        }
        self.divide_anew();
        let limit = self.shared.config.share_lease;
        let _ = tokio::time::timeout(limit, async {
            match self.shared.placements.is_budgeted() {
                true => done.await,
                false => shares::until_closed(&servers).await,
            }
        })
        .await;
    }

    /// Runs a statement in the caller's tenant, in one round trip.
    ///
    /// When the fence says that the tenant moved, its placement is looked up again and the statement is run once more,
    /// at the new home: the refused one had no effect.
    ///
    /// # Errors
    ///
    /// [`Error`] says what failed and whether it is worth trying again.
    ///
    /// # Cancel safety
    ///
    /// When dropped, the statement is cancelled and its connection closed; whether it took effect is not known.
    pub async fn query(&self, caller: &Caller, sql: &str, params: Params<'_>) -> Result<Outcome, Error> {
        let now = Instant::now();
        let Some((located, mut lease)) = self.lease_at_once(caller, now) else {
            // What is rare is boxed, so that the usual call's future stays small.
            return Box::pin(self.query_patiently(None, caller, &[], sql, params)).await;
        };
        let result = {
            let binding = located.binding(caller);
            let (session, timer) = lease.parts();
            let call = pin!(session.query(&binding, sql, params));
            timer.limit(now, located.statement_timeout, call).await
        };
        self.note_time(caller, now, sql, &result);
        match result {
            Ok(outcome) => Ok(outcome),
            Err(error) => Box::pin(self.query_patiently(Some((error, lease)), caller, &[], sql, params)).await,
        }
    }

    /// The same after a call of the mechanism's own, in the same round trip: both take effect, or neither.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query).
    ///
    /// # Cancel safety
    ///
    /// As [`query`](Self::query).
    pub async fn query_after(
        &self,
        caller: &Caller,
        ahead: Ahead,
        sql: &str,
        params: Params<'_>,
    ) -> Result<Outcome, Error> {
        self.query_patiently(None, caller, &[ahead], sql, params).await
    }

    /// Waits for what it takes, and goes to the new home of a tenant that moved.
    async fn query_patiently(
        &self,
        mut failed: Option<(Error, Lease)>,
        caller: &Caller,
        ahead: &[Ahead],
        sql: &str,
        params: Params<'_>,
    ) -> Result<Outcome, Error> {
        let mut patience = Patience::of(sql, self.config().move_wait);
        loop {
            if let Some((error, lease)) = failed.take() {
                self.reconsider(error, lease, caller, &mut patience).await?;
            }
            let (located, mut lease) = self.lease(caller).await?;
            let binding = located.binding(caller);
            let (session, timer) = lease.parts();
            let begun = Instant::now();
            let call = session.query_after(&binding, ahead, sql, params);
            let result = self.in_plan_time(&located, timer, call).await;
            self.note_time(caller, begun, sql, &result);
            match result {
                Ok(outcome) => return Ok(outcome),
                Err(error) => failed = Some((error, lease)),
            }
        }
    }

    /// Runs a statement whose rows are read one by one, in bounded memory.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query).
    ///
    /// # Cancel safety
    ///
    /// As [`query`](Self::query), for the stream too.
    pub async fn stream(&self, caller: &Caller, sql: &str, params: Params<'_>) -> Result<RowStream, Error> {
        let mut patience = Patience::of(sql, self.config().move_wait);
        loop {
            let (located, mut lease) = self.lease(caller).await?;
            let binding = located.binding(caller);
            let (session, timer) = lease.parts();
            let begun = Instant::now();
            let result = self
                .in_plan_time(&located, timer, session.stream(&binding, sql, params))
                .await;
            self.note_time(caller, begun, sql, &result);
            match result {
                Ok(reader) => return Ok(RowStream::new(self.clone(), located.clone(), lease, reader)),
                Err(error) => self.reconsider(error, lease, caller, &mut patience).await?,
            }
        }
    }

    /// Runs `copy … to stdout` and gives its data piece by piece.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query).
    ///
    /// # Cancel safety
    ///
    /// As [`query`](Self::query), for the data too.
    pub async fn copy_out(&self, caller: &Caller, sql: &str) -> Result<CopyOut, Error> {
        let mut patience = Patience::new(self.config().move_wait);
        loop {
            let (located, mut lease) = self.lease(caller).await?;
            let binding = located.binding(caller);
            let (session, timer) = lease.parts();
            let call = async {
                session.copy_out(&binding, sql).await?;
                session.next_chunk().await
            };
            let begun = Instant::now();
            let result = self.in_plan_time(&located, timer, call).await;
            self.note_time(caller, begun, sql, &result);
            match result {
                Ok(first) => return Ok(CopyOut::new(self.clone(), located.clone(), lease, first)),
                Err(error) => self.reconsider(error, lease, caller, &mut patience).await?,
            }
        }
    }

    /// Begins a transaction; BEGIN and the context travel with its first statement.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query).
    pub async fn begin(&self, caller: Arc<Caller>) -> Result<Transaction, Error> {
        let (located, lease) = self.lease(&caller).await?;
        Ok(Transaction::new(self.clone(), caller, located, lease))
    }

    /// Forgets where a tenant lives: called when the catalog says that something changed.
    pub async fn invalidate(&self, tenant: TenantId) {
        self.shared.placements.invalidate(tenant).await;
    }

    /// Forgets where all tenants live: called when changes of the catalog may have been missed.
    pub fn invalidate_all(&self) {
        self.shared.placements.invalidate_all();
    }

    /// How this process stands with each server.
    pub fn server_status(&self) -> Vec<(ServerId, ServerStatus)> {
        self.shared
            .placements
            .servers()
            .into_iter()
            .map(|(id, server)| (id, server.status()))
            .collect()
    }

    /// How each pool stands.
    pub fn status(&self) -> Vec<(TenantDatabaseId, PoolStatus)> {
        self.shared
            .placements
            .pools()
            .into_iter()
            .map(|(id, pool)| (id, pool.status()))
            .collect()
    }

    /// Closes connections that are idle for too long or too old; to be called every few seconds.
    pub fn shrink(&self) {
        for (_, server) in self.shared.placements.servers() {
            server.shrink();
        }
        self.shared.placements.forget_unused();
    }

    /// A task that calls [`shrink`](Self::shrink) until the last handle is dropped.
    pub fn spawn_shrinking(&self) -> tokio::task::JoinHandle<()> {
        let shared = Arc::downgrade(&self.shared);
        let config = &self.shared.config;
        let shortest = config.idle_max.min(config.transaction_timeout);
        let every = (shortest / 4).clamp(Duration::from_millis(20), Duration::from_secs(15));
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(every).await;
                match shared.upgrade() {
                    Some(shared) => Self { shared }.shrink(),
                    None => return,
                }
            }
        })
    }

    /// The version of the application's tables in the caller's home, as it is remembered with the home; `None` where the
    /// source of placements does not know it.
    ///
    /// # Errors
    ///
    /// Why the tenant has no home to go to.
    pub async fn schema_version(&self, caller: &Caller) -> Result<Option<i64>, Error> {
        Ok(self.locate(caller).await?.schema_version)
    }

    /// What the plan of the caller's tenant gives, as it is remembered with the home.
    ///
    /// # Errors
    ///
    /// Why the tenant has no home to go to.
    pub async fn grant(&self, caller: &Caller) -> Result<Arc<Grant>, Error> {
        Ok(self.locate(caller).await?.grant.clone())
    }

    /// So many processes divide what plans give: each tenant's statements at a time are bounded by this process's part from now on.
    pub fn divide_among(&self, processes: usize) {
        self.shared.placements.divide_among(processes);
    }

    /// Shows where the caller's tenant lives, if that is known without asking: for log lines.
    pub fn with_placement<T>(&self, caller: &Caller, show: impl FnOnce(&Placement) -> T) -> Option<T> {
        self.remembered(caller).map(|located| show(&located.home.placement))
    }

    /// A statement that took long is told.
    pub(crate) fn note_time<T>(&self, caller: &Caller, begun: Instant, sql: &str, result: &Result<T, Error>) {
        slow::note(caller, self.shared.config.slow_statement, begun, sql, result.is_err());
    }

    pub(crate) fn remembered(&self, caller: &Caller) -> Option<Arc<Located>> {
        self.shared.placements.remembered(caller, Instant::now())
    }

    pub(crate) fn source(&self) -> &dyn PlacementSource {
        self.shared.placements.source()
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) fn of(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// How old what a replica shows may be where a call says nothing else.
    pub fn staleness_max(&self) -> Duration {
        self.shared.config.staleness_max
    }

    /// How the replicas of each server stand, where this process knows of any.
    pub fn replica_status(&self) -> Vec<ReplicaStatus> {
        self.shared.placements.replicas(self.staleness_max())
    }

    /// The bounds of the pools.
    pub(crate) fn config(&self) -> &Arc<PoolConfig> {
        &self.shared.config
    }

    /// Where the caller's tenant lives.
    pub(crate) async fn locate(&self, caller: &Caller) -> Result<Arc<Located>, Error> {
        match self.shared.placements.remembered(caller, Instant::now()) {
            Some(located) => Ok(located),
            None => self.shared.placements.locate(caller).await,
        }
    }

    pub(crate) async fn lease(&self, caller: &Caller) -> Result<(Arc<Located>, Lease), Error> {
        let (located, mut lease) = self.lease_to_read(caller).await?;
        located.note_writes(caller, &mut lease);
        Ok((located, lease))
    }

    /// For what can't write.
    pub(crate) async fn lease_to_read(&self, caller: &Caller) -> Result<(Arc<Located>, Lease), Error> {
        let mut refresh = Refresh::default();
        loop {
            let located = self.locate(caller).await?;
            match located.pool.lease(&located.binding(caller)).await {
                Ok(lease) => return Ok((located, lease)),
                Err(error) => Box::pin(self.refresh(error, caller, &located, &mut refresh)).await?,
            }
        }
    }

    /// After a failure to get a connection: `Ok` when the database is reached in another way by now, as the catalog says, which is
    /// asked once.
    pub(crate) async fn refresh(
        &self,
        error: Error,
        caller: &Caller,
        located: &Arc<Located>,
        refresh: &mut Refresh,
    ) -> Result<(), Error> {
        let readdressed = matches!(error, Error::Readdressed);
        if !readdressed && !error.is_about_the_way_in() {
            return Err(error);
        }
        if std::mem::replace(&mut refresh.done, true) && !readdressed || refresh.readdressed > READDRESSED_MAX {
            return Err(error);
        }
        refresh.readdressed += u32::from(readdressed);
        // One of many asks; the others find what it found.
        if readdressed || located.pool.may_refresh() {
            self.shared.placements.invalidate(caller.tenant).await;
        }
        let now = self.locate(caller).await?;
        if !Arc::ptr_eq(&now.pool, &located.pool) {
            return Ok(());
        }
        // A new password is written to the catalog and told to the server one after the other: this may be in between.
        if error.database().is_some_and(|error| error.code() == "28P01") {
            tokio::time::sleep(PASSWORD_WAIT).await;
            return Ok(());
        }
        Err(error)
    }

    /// Where nothing has to be asked or waited for, as usual.
    fn lease_at_once(&self, caller: &Caller, now: Instant) -> Option<(Arc<Located>, Lease)> {
        let located = self.shared.placements.remembered(caller, now)?;
        let mut lease = located.pool.lease_idle(&located.binding(caller), now)?;
        located.note_writes(caller, &mut lease);
        Some((located, lease))
    }

    pub(crate) async fn in_time<T>(
        &self,
        timer: &mut Timer,
        call: impl Future<Output = Result<T, tenantry_wire::Error>>,
    ) -> Result<T, Error> {
        timer
            .limit(Instant::now(), self.shared.config.statement_timeout, pin!(call))
            .await
    }

    /// The same in the time that the tenant's plan gives, where that is less.
    pub(crate) async fn in_plan_time<T>(
        &self,
        located: &Located,
        timer: &mut Timer,
        call: impl Future<Output = Result<T, tenantry_wire::Error>>,
    ) -> Result<T, Error> {
        timer.limit(Instant::now(), located.statement_timeout, pin!(call)).await
    }

    /// After a failure at the beginning of something: `Ok` when it is worth beginning again.
    pub(crate) async fn reconsider(
        &self,
        error: Error,
        lease: impl Into<Option<Lease>>,
        caller: &Caller,
        patience: &mut Patience,
    ) -> Result<(), Error> {
        let mut lease: Option<Lease> = lease.into();
        let Error::Statement(error) = error else {
            return Err(error);
        };
        let verdict = verdict(&error);
        if let Some(lease) = &mut lease {
            if verdict.is_about_session() || (verdict == Verdict::Rejected && patience.looked_up) {
                lease.taint();
            }
            if verdict == Verdict::Fenced {
                lease.unbind();
            }
        }
        weigh(verdict, error, patience)?;
        // Nobody waits while holding a connection.
        drop(lease);
        self.settle(verdict, caller, patience).await;
        Ok(())
    }

    /// Lets the placement be looked up again, and waits where that is all there is to do.
    pub(crate) async fn settle(&self, verdict: Verdict, caller: &Caller, patience: &mut Patience) {
        if verdict.is_about_session() {
            return;
        }
        self.shared.placements.invalidate(caller.tenant).await;
        let fenced_again = verdict == Verdict::Fenced && std::mem::replace(&mut patience.fenced, true);
        if verdict == Verdict::Moving || fenced_again {
            patience.refuse();
            let longest = patience.move_wait.saturating_sub(patience.since.elapsed());
            patience.turn = Some(self.shared.waiting.turn(caller.tenant, longest).await);
        }
    }

    /// Whether the failure is about where the tenant is, or how the session is bound, and not about the statement.
    pub(crate) fn is_about_place(&self, error: &Error) -> bool {
        matches!(error, Error::Statement(error) if verdict(error) != Verdict::Final)
    }

    /// What a failure of a statement from outside means: that its fence closed, or what it says. It is not ours to wonder at.
    pub(crate) fn conclude_raw(&self, error: Error) -> Error {
        match error {
            Error::Statement(error) if verdict(&error) == Verdict::Fenced => {
                counts::refused(Verdict::Fenced);
                Error::Moving
            }
            error => error,
        }
    }

    /// What a failure means in the middle of something that had to have ended by `until`: from then on its connection is closed,
    /// whatever goes on.
    pub(crate) fn conclude_by(&self, until: Instant, error: Error, lease: &mut Lease) -> Error {
        match may_be_cut(&error) && Instant::now() >= until {
            true => Error::TransactionTimeout(self.shared.config.transaction_timeout),
            false => self.conclude(error, lease),
        }
    }

    /// What a failure in the middle of something means; it can't be repeated.
    pub(crate) fn conclude(&self, error: Error, lease: &mut Lease) -> Error {
        let Error::Statement(error) = error else { return error };
        let verdict = verdict(&error);
        if verdict.is_about_session() || verdict == Verdict::Rejected {
            if verdict != Verdict::Ended {
                tracing::error!(error = %error, "a session was not as it was left; its connection is closed");
            }
            lease.taint();
        }
        meaning(error)
    }
}

/// Whether a failure is one that comes of a connection's being ended from outside: what ran was stopped, or nothing more came.
pub(crate) fn may_be_cut(error: &Error) -> bool {
    matches!(error, Error::Statement(error) if error.database().is_none_or(|error| error.code() == "57014"))
}

/// `Ok` when it is worth beginning again.
pub(crate) fn weigh(verdict: Verdict, error: tenantry_wire::Error, patience: &mut Patience) -> Result<(), Error> {
    counts::refused(verdict);
    match verdict {
        Verdict::Final => return Err(Error::Statement(error)),
        Verdict::Suspended => return Err(Error::Locate(LocateError::Suspended)),
        Verdict::NotBound | Verdict::Tampered => {
            tracing::error!(error = %error, "a session was not as it was left; its connection is closed");
            if std::mem::replace(&mut patience.replaced, true) {
                return Err(if verdict == Verdict::NotBound {
                    Error::Context(error)
                } else {
                    Error::Statement(error)
                });
            }
        }
        Verdict::Ended if patience.ended >= ENDED_MAX => return Err(Error::Statement(error)),
        Verdict::Ended => patience.ended += 1,
        Verdict::Rejected if patience.looked_up => return Err(Error::Context(error)),
        Verdict::Elsewhere if patience.looked_up => return Err(Error::Moving),
        Verdict::Moving | Verdict::Fenced if patience.since.elapsed() > patience.move_wait => {
            patience.refuse();
            return Err(Error::Moving);
        }
        Verdict::Elsewhere | Verdict::Rejected => patience.looked_up = true,
        Verdict::Fenced | Verdict::Moving => {}
    }
    Ok(())
}

/// What a failure in the middle of something means; it can't be repeated.
pub(crate) fn meaning(error: tenantry_wire::Error) -> Error {
    let verdict = verdict(&error);
    counts::refused(verdict);
    match verdict {
        Verdict::Final | Verdict::Tampered | Verdict::Ended => Error::Statement(error),
        Verdict::Suspended => Error::Locate(LocateError::Suspended),
        Verdict::NotBound | Verdict::Rejected => Error::Context(error),
        Verdict::Fenced | Verdict::Elsewhere | Verdict::Moving => Error::Moving,
    }
}

/// What a caller has been through while it asked for a connection.
#[derive(Default)]
pub(crate) struct Refresh {
    done: bool,
    readdressed: u32,
}

/// What a caller has been through already.
pub(crate) struct Patience {
    since: Instant,
    /// How long a move may take.
    move_wait: Duration,
    /// The placement was looked up again.
    looked_up: bool,
    /// Another connection was taken.
    replaced: bool,
    /// How often the session was ended under it.
    ended: u32,
    /// The binding was made again, after which `enter` says why the fence is closed.
    fenced: bool,
    /// It waited for a move and asks whether that has ended. Dropped with the call that was served, it tells the others.
    turn: Option<Turn>,
}

impl Patience {
    /// With a statement that is no part of a transaction.
    pub(crate) fn of(sql: &str, move_wait: Duration) -> Self {
        match tenantry_wire::may_commit(sql) {
            true => Self::committing(move_wait),
            false => Self::new(move_wait),
        }
    }

    /// With what may have been committed when its session is ended, and so is not begun again then.
    pub(crate) fn committing(move_wait: Duration) -> Self {
        Self {
            ended: ENDED_MAX,
            ..Self::new(move_wait)
        }
    }

    pub(crate) fn new(move_wait: Duration) -> Self {
        Self {
            since: Instant::now(),
            move_wait,
            looked_up: false,
            replaced: false,
            ended: 0,
            fenced: false,
            turn: None,
        }
    }

    /// It was told to wait on.
    fn refuse(&mut self) {
        if let Some(turn) = self.turn.take() {
            turn.refuse();
        }
    }
}

/// What an error says about the tenant's place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// Nothing.
    Final,
    /// The placement is out of date.
    Elsewhere,
    /// The tenant is moving.
    Moving,
    /// The tenant is suspended.
    Suspended,
    /// The compiled fence closed on a bound session; `enter` will say why.
    Fenced,
    /// The token was not accepted, maybe because keys rotated.
    Rejected,
    /// The session is not bound as expected.
    NotBound,
    /// A setting of the session, which we never set, was the cause: SQL has changed it.
    Tampered,
    /// An administrator ended the session before what was asked took effect.
    Ended,
}

impl Verdict {
    /// Whether the session can't be used on.
    pub(crate) fn is_about_session(self) -> bool {
        matches!(self, Self::NotBound | Self::Tampered | Self::Ended)
    }
}

pub(crate) fn verdict(error: &tenantry_wire::Error) -> Verdict {
    let Some(error) = error.database() else {
        return Verdict::Final;
    };
    match error.code() {
        "TN001" => Verdict::Elsewhere,
        "TN002" => Verdict::Suspended,
        "TN003" => Verdict::Moving,
        "28000" if error.message().starts_with("tenantry: ") => Verdict::Rejected,
        "22P02" => match error.tenantry_sentence() {
            Some(sentence) if sentence.starts_with("fenced") => Verdict::Fenced,
            Some(sentence) if sentence.starts_with("the session is not bound") => Verdict::NotBound,
            _ => Verdict::Final,
        },
        "42501"
            if error
                .message()
                .starts_with("query would be affected by row-level security") =>
        {
            Verdict::Tampered
        }
        "25006" => Verdict::Tampered,
        // What a statement by itself did is not committed then: between its commit and the end of the call nobody is interrupted. For others
        // see `Patience::committing`.
        "57P01" => Verdict::Ended,
        "57014" if error.message().contains("statement timeout") => Verdict::Tampered,
        _ => Verdict::Final,
    }
}
