//! The connections of one driver to one tenant database: bounded, lent in the order of asking.

use std::{
    io,
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tenantry_core::TenantId;
use tenantry_wire::{Binding, Endpoint, Error as WireError};
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::{Driver, session::Session};
use crate::{
    Error, Incarnation, PoolConfig, PoolStatus,
    database::{DatabasePool, jittered},
    place::Lane,
    placements::Located,
    pools::{Verdict, verdict},
    server::Reclaim,
};

/// How long a server may take to hear a good-bye.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
const IDENTITY: &str = "select pg_catalog.concat_ws(' ', c.system_identifier, d.oid, pg_catalog.pg_backend_pid()) as answer \
    from pg_catalog.pg_control_system() c, pg_catalog.pg_database d \
    where d.datname = pg_catalog.current_database()";
/// Other drivers leave the time of statements to the server. SQL can switch this off, to its own harm only.
const STATEMENT_TIMEOUT: &str = "select pg_catalog.set_config('statement_timeout', $1, false) as answer";
/// The same until the transaction ends.
const STATEMENT_TIMEOUT_HERE: &str = "select pg_catalog.set_config('statement_timeout', $1, true) as answer";
/// A server that runs a statement for a socket that is gone would hold its locks until the end. Not every platform can.
const NOTICE_CLOSED: &str = "set client_connection_check_interval = '1s'";

/// The connections of one driver to one tenant database.
pub(super) struct ForeignPool<D> {
    endpoint: Arc<Endpoint>,
    incarnation: Option<Incarnation>,
    config: Arc<PoolConfig>,
    /// Where the connections are counted among the server's.
    database: Arc<DatabasePool>,
    /// One for each connection that is lent, being opened or being closed.
    places: Arc<Semaphore>,
    waiting: AtomicUsize,
    inner: Mutex<Inner<D>>,
}

struct Inner<D> {
    /// Least recently used first.
    idle: Vec<Session<D>>,
    /// Connections from before this moment hold statements that a change of the schema made stale.
    fresh_since: Option<Instant>,
}

impl<D: Driver> ForeignPool<D> {
    pub(super) fn new(located: &Located, config: Arc<PoolConfig>) -> Arc<Self> {
        let pool = Arc::new(Self {
            endpoint: located.home.endpoint.clone(),
            incarnation: located.home.incarnation,
            database: located.pool.clone(),
            places: Arc::new(Semaphore::new(config.connections_max)),
            waiting: AtomicUsize::new(0),
            inner: Mutex::new(Inner {
                idle: Vec::new(),
                fresh_since: None,
            }),
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
        PoolStatus {
            open: idle + self.lent(),
            idle,
            waiting: self.waiting.load(Ordering::Relaxed),
            ..PoolStatus::default()
        }
    }

    fn lent(&self) -> usize {
        self.config
            .connections_max
            .saturating_sub(self.places.available_permits())
    }

    /// Waits for a place in the order of asking.
    pub(super) async fn place(self: Arc<Self>) -> Result<Place<D>, Error> {
        let permit = match self.places.clone().try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                let waiting = Waiting::new(&self.waiting);
                if waiting.before >= self.config.waiting_max {
                    return Err(Error::Full(waiting.before));
                }
                match timeout(self.config.wait_timeout, self.places.clone().acquire_owned()).await {
                    Ok(Ok(permit)) => permit,
                    _ => return Err(Error::WaitTimeout(self.config.wait_timeout)),
                }
            }
        };
        Ok(Place { pool: self, permit })
    }

    /// The idle connection that costs least to use; and one that has to go, where another has to be opened.
    fn pick(self: &Arc<Self>, binding: &Binding<'_>) -> (Option<Session<D>>, Option<Session<D>>) {
        self.shrink();
        let lent = self.lent();
        let mut inner = self.inner.lock();
        let found = inner
            .idle
            .iter()
            .rposition(|session| session.serves(binding))
            .or_else(|| inner.idle.iter().position(|session| session.may_serve(binding)));
        if let Some(found) = found {
            return (Some(inner.idle.remove(found)), None);
        }
        // The others are of other schemas.
        let full = inner.idle.len() + lent > self.config.connections_max && !inner.idle.is_empty();
        (None, full.then(|| inner.idle.remove(0)))
    }

    async fn connect(&self, tenant: TenantId) -> Result<Session<D>, Error> {
        let place = self.database.place(tenant, Lane::Foreign).await?;
        let opening = async {
            let mut driver = D::connect(&self.endpoint, &self.config).await?;
            let identity = driver.ask(IDENTITY, &[]).await?;
            let statement_timeout = self.config.statement_timeout.as_millis().to_string();
            driver.ask(STATEMENT_TIMEOUT, &[&statement_timeout]).await?;
            let _ = driver.run(NOTICE_CLOSED).await;
            Ok((driver, identity.unwrap_or_default()))
        };
        let timed_out = || WireError::Io(io::ErrorKind::TimedOut.into());
        let (driver, identity) = timeout(self.config.connect_timeout, opening)
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
        Ok(Session::new(
            driver,
            pid,
            place,
            now,
            now + jittered(self.config.life_max, pid),
        ))
    }

    /// Takes a connection back. Its place is still held, and given back after this.
    fn put_back(self: &Arc<Self>, mut session: Session<D>) {
        session.idle_since = Instant::now();
        if self.is_spent(&session, self.inner.lock().fresh_since) {
            return say_good_bye(session, None);
        }
        self.inner.lock().idle.push(session);
        if self.tell_idle() {
            self.reclaim();
        }
    }

    /// Tells the server's pool how many lie idle; whether somebody else needs one's place.
    fn tell_idle(self: &Arc<Self>) -> bool {
        let this: Weak<dyn Reclaim> = Arc::<Self>::downgrade(self);
        let idle = self.inner.lock().idle.len();
        let (server, slot) = (self.database.server(), self.database.slot());
        server.lane_idles(slot, Lane::Foreign, idle, this)
    }

    fn is_spent(&self, session: &Session<D>, fresh_since: Option<Instant>) -> bool {
        let now = Instant::now();
        session.dies <= now
            || now - session.idle_since >= self.config.idle_max
            || fresh_since.is_some_and(|since| session.opened < since)
    }

    /// Closes what has lain idle for too long, or has reached its age.
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
            self.tell_idle();
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
        let idle = {
            let mut inner = self.inner.lock();
            (!inner.idle.is_empty()).then(|| inner.idle.remove(0))
        };
        if let Some(session) = idle {
            say_good_bye(session, None);
        }
    }
}

/// A caller in the queue, counted until it is served or gives up.
struct Waiting<'a> {
    waiting: &'a AtomicUsize,
    before: usize,
}

impl<'a> Waiting<'a> {
    fn new(waiting: &'a AtomicUsize) -> Self {
        let before = waiting.fetch_add(1, Ordering::Relaxed);
        Self { waiting, before }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The right to use a connection.
pub(super) struct Place<D: Driver> {
    pool: Arc<ForeignPool<D>>,
    permit: OwnedSemaphorePermit,
}

impl<D: Driver> Place<D> {
    /// Opens a transaction on a connection that lies idle or is opened for it; `by_plan` is how long a statement in it may run, where
    /// the tenant's plan gives less than the configuration.
    pub(super) async fn open(self, binding: &Binding<'_>, by_plan: Option<Duration>) -> Result<ForeignLease<D>, Error> {
        loop {
            let (found, going) = self.pool.pick(binding);
            self.pool.tell_idle();
            if let Some(going) = going {
                // Only then there is room, on the server too.
                let _ = timeout(CLOSE_TIMEOUT, going.close()).await;
            }
            let (mut session, reused) = match found {
                Some(session) => (session, true),
                None => (self.pool.connect(binding.tenant).await?, false),
            };
            let limit = self.pool.config.statement_timeout;
            let begun = async {
                session.begin(binding).await?;
                if let Some(by_plan) = by_plan {
                    let by_plan = by_plan.as_millis().to_string();
                    session.driver.ask(STATEMENT_TIMEOUT_HERE, &[&by_plan]).await?;
                }
                Ok(())
            };
            let error = match timeout(limit, begun).await {
                Ok(Ok(())) => {
                    return Ok(ForeignLease {
                        session: Some(session),
                        pool: self.pool,
                        permit: Some(self.permit),
                    });
                }
                Ok(Err(error)) => error,
                Err(_) => return Err(Error::StatementTimeout(limit)),
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
                self.pool.put_back(session);
            }
            return Err(Error::Statement(error));
        }
    }
}

/// A connection that is lent, with its transaction open. Dropping it closes the connection; only what came to its end is
/// given back.
pub(super) struct ForeignLease<D: Driver> {
    session: Option<Session<D>>,
    pool: Arc<ForeignPool<D>>,
    permit: Option<OwnedSemaphorePermit>,
}

impl<D: Driver> ForeignLease<D> {
    pub(super) fn driver(&mut self) -> Option<&mut D> {
        Some(&mut self.session.as_mut()?.driver)
    }

    /// The transaction came to its end.
    pub(super) fn give_back(mut self, tainted: bool) {
        let Some(session) = self.session.take() else { return };
        if tainted {
            say_good_bye(session, self.permit.take());
        } else {
            self.pool.put_back(session);
        }
    }

    /// No connection that is open by now is lent again.
    pub(super) fn all_stale(&self) {
        self.pool.inner.lock().fresh_since = Some(Instant::now());
    }

    pub(super) fn statement_timeout(&self) -> Duration {
        self.pool.config.statement_timeout
    }
}

/// Closes an idle connection; its place, if it holds one, is free after that.
fn say_good_bye<D: Driver>(session: Session<D>, permit: Option<OwnedSemaphorePermit>) {
    if let Ok(runtime) = Handle::try_current() {
        runtime.spawn(async move {
            let _ = timeout(CLOSE_TIMEOUT, session.close()).await;
            drop(permit);
        });
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
