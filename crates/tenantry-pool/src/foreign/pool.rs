//! The connections of one driver to one tenant database: bounded, lent by turns among tenants.

use std::{
    io,
    pin::pin,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tenantry_core::TenantId;
use tenantry_wire::{Binding, Endpoint, Error as WireError};
use tokio::{
    sync::{Notify, oneshot},
    time::timeout,
};

use super::{
    Driver,
    lease::{ForeignLease, abandon, say_good_bye},
    relay::{Limits, Relay},
    session::{Opening, Session},
};
use crate::{
    Error, Incarnation, PoolConfig, PoolStatus,
    database::{DatabasePool, jittered},
    member::parting,
    place::{Lane, Place},
    placements::Located,
    pools::{Verdict, verdict},
    seat::{Seat, Sever},
    server::{CameBack, Reclaim},
    turns::Turn,
};

/// How long a caller waits for another connection of its driver's to end, whose place it needs.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
const IDENTITY: &str = "select pg_catalog.concat_ws(' ', c.system_identifier, d.oid, pg_catalog.pg_backend_pid()) as answer \
    from pg_catalog.pg_control_system() c, pg_catalog.pg_database d \
    where d.datname = pg_catalog.current_database()";
/// Other drivers leave the time of statements to the server, which tells best what was stopped. Where SQL switches this off, the relay
/// closes the connection a moment later.
const STATEMENT_TIMEOUT: &str = "select pg_catalog.set_config('statement_timeout', $1, false) as answer";
/// The same until the transaction ends.
const STATEMENT_TIMEOUT_HERE: &str = "select pg_catalog.set_config('statement_timeout', $1, true) as answer";
/// A server that runs a statement for a socket that is gone would hold its locks until the end. Not every platform can.
const NOTICE_CLOSED: &str = "set client_connection_check_interval = '1s'";

/// The connections of one driver to one tenant database.
pub(super) struct ForeignPool<D> {
    endpoint: Arc<Endpoint>,
    incarnation: Option<Incarnation>,
    pub(super) config: Arc<PoolConfig>,
    /// Where the connections are counted among the server's, and turns on them are had.
    database: Arc<DatabasePool>,
    /// Which of the database's drivers this is.
    number: usize,
    inner: Mutex<Inner<D>>,
    /// Rings for those who wait for a place when a connection comes back.
    came_back: Notify,
}

struct Inner<D> {
    /// Least recently used first.
    idle: Vec<Session<D>>,
    /// Connections from before this moment hold statements that a change of the schema made stale.
    fresh_since: Option<Instant>,
    /// The schemas of callers that have a turn and wait for a place, or for a connection that comes back before one is free.
    sought: Vec<Arc<str>>,
}

impl<D: Driver> ForeignPool<D> {
    pub(super) fn new(located: &Located, config: Arc<PoolConfig>) -> Arc<Self> {
        let pool = Arc::new(Self {
            endpoint: located.home.endpoint.clone(),
            incarnation: located.home.incarnation,
            database: located.pool.clone(),
            number: located.pool.server().add_driver(located.pool.slot()),
            inner: Mutex::new(Inner {
                idle: Vec::new(),
                fresh_since: None,
                sought: Vec::new(),
            }),
            came_back: Notify::new(),
            config,
        });
        pool.spawn_shrinking();
        pool
    }

    pub(super) fn leads_to(&self, located: &Located) -> bool {
        Arc::ptr_eq(&self.database, &located.pool)
    }

    pub(super) fn status(&self) -> PoolStatus {
        let idle = self.inner.lock().idle.len();
        let (lent, waiting) = self.turns();
        PoolStatus {
            open: idle + lent,
            idle,
            waiting,
            ..PoolStatus::default()
        }
    }

    /// How many callers have a turn, and how many wait for one.
    fn turns(&self) -> (usize, usize) {
        self.database.server().turns_of(self.database.slot(), self.number)
    }

    /// Waits until the tenant may use a connection.
    ///
    /// # Cancel safety
    ///
    /// When dropped, the caller's place in the queue is free.
    pub(super) async fn turn(self: Arc<Self>, tenant: TenantId) -> Result<Taken<D>, Error> {
        let turn = self.database.turn(self.number, tenant).await?;
        Ok(Taken { pool: self, turn })
    }

    /// The idle connection that costs least to use; and one that has to go, where another has to be opened.
    fn pick(self: &Arc<Self>, binding: &Binding<'_>) -> (Option<Session<D>>, Option<Session<D>>) {
        self.shrink();
        let (lent, _) = self.turns();
        let mut inner = self.inner.lock();
        if let Some(found) = inner.take_fitting(binding) {
            return (Some(found), None);
        }
        // The others are of other schemas.
        let full = inner.idle.len() + lent > self.config.connections_max && !inner.idle.is_empty();
        (None, full.then(|| inner.idle.remove(0)))
    }

    /// A place for another connection, or one that came back before there was a place.
    ///
    /// # Cancel safety
    ///
    /// When dropped, the caller's place in the queue is free.
    async fn find(&self, binding: &Binding<'_>) -> Result<Found<D>, Error> {
        let _seeking = Seeking::begin(self, binding.schema);
        let mut place = pin!(self.database.place(binding.tenant, Lane::Foreign));
        let session = loop {
            // Before it looks, so that no ring is lost.
            let back = self.came_back.notified();
            if let Some(session) = self.inner.lock().take_fitting(binding) {
                break session;
            }
            // Dropping the ring loses nothing: what came back is looked for again.
            tokio::select! {
                biased;
                place = &mut place => return Ok(Found::Place(place?)),
                () = back => {}
            }
        };
        Ok(Found::Session(Box::new(session)))
    }

    /// The place that was asked for is not needed any more.
    fn wants_no_place(&self) {
        let slot = self.database.slot();
        self.database.server().wants_no_place(slot, Lane::Foreign);
    }

    async fn connect(&self, place: Place) -> Result<Session<D>, Error> {
        let (server, sever) = (self.database.server(), Sever::default());
        let seat = Seat::of_relay(sever.clone());
        let seated = server.seat(&seat);
        // Asked after it has a seat: a share that is lost from here on takes this connection along.
        if !server.has_share() {
            return Err(Error::WaitTimeout(self.config.wait_timeout));
        }
        let limits = Limits {
            statement: self.config.statement_timeout,
            parting: parting(&self.config),
        };
        let opening = async move {
            let (relay, inside) = Relay::start(&self.endpoint, sever, limits, (seated, place)).await?;
            let mut driver = D::connect(&inside, &self.config).await?;
            let identity = driver.ask(IDENTITY, &[]).await?;
            let statement_timeout = self.config.statement_timeout.as_millis().to_string();
            driver.ask(STATEMENT_TIMEOUT, &[&statement_timeout]).await?;
            let _ = driver.run(NOTICE_CLOSED).await;
            Ok((driver, relay, identity.unwrap_or_default()))
        };
        let timed_out = || WireError::Io(io::ErrorKind::TimedOut.into());
        let (driver, relay, identity) = timeout(self.config.connect_timeout, opening)
            .await
            .unwrap_or_else(|_| Err(timed_out()))
            .map_err(|error| Error::Connect(Arc::new(error)))?;
        let (incarnation, pid) = read_identity(&identity)
            .ok_or_else(|| Error::Connect(Arc::new(WireError::Protocol("no answer about the database's identity"))))?;
        if self.incarnation.is_some_and(|expected| expected != incarnation) {
            tracing::error!("a tenant database is not the one that its key was made for: it is not used");
            return Err(Error::Incarnation);
        }
        let now = Instant::now();
        let dies = now + jittered(self.config.life_max, pid);
        Ok(Session::new(Opening { driver, pid, relay }, seat, now, dies))
    }

    /// Takes a connection back that nothing is open on, and gives its user's turn to the next.
    pub(super) fn put_back(self: &Arc<Self>, mut session: Session<D>, turn: Turn) {
        session.seat.given_back();
        session.idle_since = Instant::now();
        if self.is_spent(&session, self.inner.lock().fresh_since) {
            return say_good_bye(session, Some(turn));
        }
        let came_back = {
            let mut inner = self.inner.lock();
            let opened = session.opened;
            let is_sought = inner.sought.iter().any(|schema| session.fits(schema));
            inner.idle.push(session);
            CameBack { opened, is_sought }
        };
        if self.tell_idle(Some(came_back)) {
            if let Some(session) = self.take_least_used() {
                say_good_bye(session, None);
            }
            self.tell_idle(None);
        }
        // Also where one had to go: that was the least recently used, and need not be the one that is sought.
        if came_back.is_sought {
            self.came_back.notify_waiters();
        }
        // Only now: whose turn it is next finds the connection, unless it had to go.
        drop(turn);
    }

    /// Tells the server's pool how many lie idle; whether the one that came back has to go.
    fn tell_idle(self: &Arc<Self>, came_back: Option<CameBack>) -> bool {
        let this: Weak<dyn Reclaim> = Arc::<Self>::downgrade(self);
        // One that somebody comes for is nobody else's to have.
        let sought = came_back.is_some_and(|one| one.is_sought);
        let idle = self.inner.lock().idle.len().saturating_sub(usize::from(sought));
        let (server, slot) = (self.database.server(), self.database.slot());
        server.lane_idles(slot, Lane::Foreign, idle, this, came_back)
    }

    /// No connection that is open by now is lent again.
    pub(super) fn all_stale(&self) {
        self.inner.lock().fresh_since = Some(Instant::now());
    }

    fn take_least_used(&self) -> Option<Session<D>> {
        let mut inner = self.inner.lock();
        (!inner.idle.is_empty()).then(|| inner.idle.remove(0))
    }

    fn is_spent(&self, session: &Session<D>, fresh_since: Option<Instant>) -> bool {
        let now = Instant::now();
        session.is_over()
            || session.dies <= now
            || now - session.idle_since >= self.config.idle_max
            || fresh_since.is_some_and(|since| session.opened < since)
    }

    /// Closes what has lain idle for too long, or has reached its age, or was ended.
    fn shrink(self: &Arc<Self>) {
        let mut spent = Vec::new();
        {
            let mut inner = self.inner.lock();
            let fresh_since = inner.fresh_since;
            for session in std::mem::take(&mut inner.idle) {
                if self.is_spent(&session, fresh_since) {
                    spent.push(session);
                } else {
                    inner.idle.push(session);
                }
            }
        }
        if !spent.is_empty() {
            self.tell_idle(None);
        }
        for session in spent {
            say_good_bye(session, None);
        }
    }

    fn spawn_shrinking(self: &Arc<Self>) {
        let pool = Arc::downgrade(self);
        let every = (self.config.idle_max / 4).clamp(Duration::from_millis(20), Duration::from_secs(15));
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(every).await;
                match pool.upgrade() {
                    Some(pool) => pool.shrink(),
                    None => return,
                }
            }
        });
    }
}

impl<D: Driver> Reclaim for ForeignPool<D> {
    fn reclaim(&self) {
        let session = self.take_least_used();
        match session.as_ref().and_then(Session::leaving) {
            Some(leaving) => leaving.begins_as_asked(),
            None => self
                .database
                .server()
                .gave_up(self.database.slot(), Lane::Foreign, None),
        }
        if let Some(session) = session {
            say_good_bye(session, None);
        }
    }
}

impl<D: Driver> Inner<D> {
    /// Takes the idle connection that costs least to use.
    fn take_fitting(&mut self, binding: &Binding<'_>) -> Option<Session<D>> {
        let serves = self.idle.iter().rposition(|session| session.serves(binding));
        let fitting = serves.or_else(|| self.idle.iter().position(|session| session.may_serve(binding)))?;
        Some(self.idle.remove(fitting))
    }
}

/// What a caller has found who needed a connection and met none.
enum Found<D> {
    Place(Place),
    Session(Box<Session<D>>),
}

/// One that waits for either.
struct Seeking<'a, D> {
    inner: &'a Mutex<Inner<D>>,
    schema: Arc<str>,
}

impl<'a, D> Seeking<'a, D> {
    fn begin(pool: &'a ForeignPool<D>, schema: &Arc<str>) -> Self {
        pool.inner.lock().sought.push(schema.clone());
        Self {
            inner: &pool.inner,
            schema: schema.clone(),
        }
    }
}

impl<D> Drop for Seeking<'_, D> {
    fn drop(&mut self) {
        let mut inner = self.inner.lock();
        if let Some(own) = inner.sought.iter().position(|schema| *schema == self.schema) {
            inner.sought.swap_remove(own);
        }
    }
}

/// Where a caller waits for its transaction.
type Answer<D> = oneshot::Sender<Result<ForeignLease<D>, Error>>;

/// A turn that has come: the right to use a connection.
pub(super) struct Taken<D: Driver> {
    pool: Arc<ForeignPool<D>>,
    turn: Turn,
}

impl<D: Driver> Taken<D> {
    /// Opens a transaction on a connection that lies idle or is opened for it; `by_plan` is how long a statement in it may run, where
    /// the tenant's plan gives less than the configuration.
    pub(super) async fn open(self, binding: &Binding<'_>, by_plan: Option<Duration>, mut answer: Answer<D>) {
        let opened = self.open_unless(answer.closed(), binding, by_plan).await;
        // Where the caller has given up meanwhile it is dropped here, which closes the connection.
        let _ = answer.send(opened);
    }

    /// The same, unless the caller has gone while it waits for a place.
    async fn open_unless(
        self,
        gone: impl Future<Output = ()>,
        binding: &Binding<'_>,
        by_plan: Option<Duration>,
    ) -> Result<ForeignLease<D>, Error> {
        let Self { pool, turn } = self;
        let mut gone = pin!(gone);
        loop {
            let (found, going) = pool.pick(binding);
            pool.tell_idle(None);
            if let Some(going) = going {
                if let Some(leaving) = going.leaving() {
                    leaving.begins();
                }
                // Only then there is room, on the server too.
                let _ = timeout(CLOSE_TIMEOUT, going.close()).await;
            }
            let (mut session, reused) = match found {
                Some(session) => (session, true),
                None => {
                    // Nothing is begun yet, and others wait for the turn of who has gone. Dropping the search leaves nothing behind, and
                    // dropping the other arm means nothing.
                    let found = tokio::select! {
                        () = gone.as_mut() => None,
                        found = pool.find(binding) => Some(found?),
                    };
                    match found {
                        Some(Found::Place(place)) => {
                            // One may have come back for nobody.
                            pool.tell_idle(None);
                            (pool.connect(place).await?, false)
                        }
                        Some(Found::Session(session)) => {
                            pool.wants_no_place();
                            (*session, true)
                        }
                        None => {
                            pool.wants_no_place();
                            return Err(Error::WaitTimeout(pool.config.wait_timeout));
                        }
                    }
                }
            };
            let limit = pool.config.statement_timeout;
            session.silence().allow(by_plan.unwrap_or(limit));
            let begun = async {
                session.begin(binding).await?;
                if let Some(by_plan) = by_plan {
                    let by_plan = by_plan.as_millis().to_string();
                    session.driver.ask(STATEMENT_TIMEOUT_HERE, &[&by_plan]).await?;
                }
                Ok(())
            };
            let error = match timeout(limit, begun).await {
                Ok(Ok(())) => return Ok(ForeignLease::new(session, pool, turn)),
                Ok(Err(error)) => error,
                Err(_) => {
                    abandon(session, turn);
                    return Err(Error::StatementTimeout(limit));
                }
            };
            if is_about_socket(&error) {
                // The server has closed it, or was started again: so it is with all that lie idle for as long.
                if reused {
                    continue;
                }
                return Err(Error::Connect(Arc::new(error)));
            }
            let kept = matches!(
                verdict(&error),
                Verdict::Fenced | Verdict::Moving | Verdict::Elsewhere | Verdict::Suspended
            );
            if kept && matches!(timeout(limit, session.begin_again()).await, Ok(Ok(()))) {
                pool.put_back(session, turn);
            } else {
                abandon(session, turn);
            }
            return Err(Error::Statement(error));
        }
    }
}

/// Whether the connection ended, so that nothing can have taken effect in the transaction it was to open.
fn is_about_socket(error: &WireError) -> bool {
    match error {
        WireError::Io(_) | WireError::Closed | WireError::Unusable => true,
        WireError::Database(error) => error.code().starts_with("57P") || error.code().starts_with("08"),
        _ => false,
    }
}

fn read_identity(text: &str) -> Option<(Incarnation, i32)> {
    let mut parts = text.split(' ');
    let incarnation = Incarnation {
        system_identifier: parts.next()?.parse().ok()?,
        database_oid: parts.next()?.parse().ok()?,
    };
    Some((incarnation, parts.next()?.parse().ok()?))
}
