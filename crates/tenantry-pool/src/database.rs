//! The connections to one tenant database: bounded, lent by turns, kept with their tenants.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tenantry_core::TenantId;
use tenantry_wire::{Binding, Connection, Endpoint, Options, Session};
use tokio::sync::oneshot;

use crate::{
    Error, Incarnation, PoolConfig,
    member::{Lease, Member, close},
    queue::{FairQueue, Waiter},
    raw::RawPlace,
    timer::Timer,
};

/// Connections that are opened at the same time: a server that comes back is not met by all of them at once.
const OPENING_MAX: usize = 4;

/// The connections to one tenant database.
pub(crate) struct DatabasePool {
    endpoint: Arc<Endpoint>,
    incarnation: Option<Incarnation>,
    config: Arc<PoolConfig>,
    inner: Mutex<Inner>,
}

/// While somebody waits nothing lies idle: what comes back goes to whose turn it is.
#[derive(Default)]
struct Inner {
    /// Least recently used first.
    #[expect(
        clippy::vec_box,
        reason = "a member is taken out and put back for each call, and is half a kilobyte"
    )]
    idle: Vec<Box<Member>>,
    waiting: FairQueue<Result<Lease, Error>>,
    /// For a place, not for a connection: those of the raw lane serve one call each.
    raw_waiting: VecDeque<Waiter<RawPlace>>,
    /// All that exist, of both lanes: idle, lent, being opened, being closed.
    open: usize,
    /// Those of the raw lane.
    raw_open: usize,
    opening: usize,
    /// Who has asked so far: the two lanes take turns by it.
    asked: u64,
}

/// How a pool stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PoolStatus {
    /// Connections that exist.
    pub open: usize,
    /// Those of them that nobody uses.
    pub idle: usize,
    /// Callers that wait.
    pub waiting: usize,
    /// Connections of the raw lane among those that exist.
    pub raw: usize,
}

impl DatabasePool {
    pub(crate) fn new(endpoint: Arc<Endpoint>, incarnation: Option<Incarnation>, config: Arc<PoolConfig>) -> Arc<Self> {
        Arc::new(Self {
            endpoint,
            incarnation,
            config,
            inner: Mutex::default(),
        })
    }

    /// Whether the pool leads where these would.
    pub(crate) fn leads_to(&self, endpoint: &Arc<Endpoint>, incarnation: Option<Incarnation>) -> bool {
        self.incarnation == incarnation && (Arc::ptr_eq(&self.endpoint, endpoint) || self.endpoint.same_as(endpoint))
    }

    pub(crate) fn status(&self) -> PoolStatus {
        let inner = self.inner.lock();
        PoolStatus {
            open: inner.open,
            idle: inner.idle.len(),
            waiting: inner.waiting.len() + inner.raw_waiting.len(),
            raw: inner.raw_open,
        }
    }

    /// Lends an idle connection: one bound as needed if there is one, else an unbound one, else the one unused for
    /// longest. `None` where none is idle.
    pub(crate) fn lease_idle(self: &Arc<Self>, binding: &Binding<'_>, now: Instant) -> Option<Lease> {
        loop {
            let mut member = self.inner.lock().best(binding)?;
            // Looked at outside of the lock.
            if member.dies <= now || member.session.connection().is_closed() {
                close(self.clone(), member);
                continue;
            }
            debug_assert!(member.session.is_clean(), "B4: a connection in doubt is lent");
            return Some(Lease::new(member, self.clone()));
        }
    }

    /// Lends a connection, and waits for one: in the order of asking within a tenant, by turns among tenants.
    pub(crate) async fn lease(self: &Arc<Self>, binding: &Binding<'_>) -> Result<Lease, Error> {
        loop {
            if let Some(lease) = self.lease_idle(binding, Instant::now()) {
                return Ok(lease);
            }
            match self.queue_up(binding.tenant) {
                Some(Ok(receiver)) => return self.wait(receiver).await,
                Some(Err(waiting)) => return Err(Error::Full(waiting)),
                None => {}
            }
        }
    }

    /// Takes a place in the queue; the queue's length where it is full; `None` where a connection has come back by now.
    fn queue_up(self: &Arc<Self>, tenant: TenantId) -> Option<Result<oneshot::Receiver<Result<Lease, Error>>, usize>> {
        let mut inner = self.inner.lock();
        if !inner.idle.is_empty() {
            return None;
        }
        if let Some(waiting) = inner.is_full(self.config.waiting_max) {
            // Not for what others ask: whoever has more waiters than anybody loses one.
            match inner.waiting.pop_of_longest(tenant) {
                Some(other) => drop(other.sender.send(Err(Error::Full(waiting)))),
                None => return Some(Err(waiting)),
            }
        }
        let (sender, receiver) = oneshot::channel();
        let asked = inner.next_turn();
        inner.waiting.push(tenant, Waiter { asked, sender });
        self.open_if_needed(&mut inner);
        Some(Ok(receiver))
    }

    async fn wait(&self, receiver: oneshot::Receiver<Result<Lease, Error>>) -> Result<Lease, Error> {
        match tokio::time::timeout(self.config.wait_timeout, receiver).await {
            Ok(Ok(granted)) => granted,
            Ok(Err(_)) | Err(_) => Err(Error::WaitTimeout(self.config.wait_timeout)),
        }
    }

    /// A place for a connection of the raw lane, in the order of asking among both lanes.
    pub(crate) async fn raw_place(self: &Arc<Self>) -> Result<RawPlace, Error> {
        let receiver = {
            let mut inner = self.inner.lock();
            if let Some(waiting) = inner.is_full(self.config.waiting_max) {
                return Err(Error::Full(waiting));
            }
            let (sender, receiver) = oneshot::channel();
            let asked = inner.next_turn();
            inner.raw_waiting.push_back(Waiter { asked, sender });
            self.serve_raw(&mut inner);
            receiver
        };
        match tokio::time::timeout(self.config.wait_timeout, receiver).await {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(_)) | Err(_) => Err(Error::WaitTimeout(self.config.wait_timeout)),
        }
    }

    /// Gives places that are free, or that idle connections of the code lane hold, to who waits for the raw lane.
    fn serve_raw(self: &Arc<Self>, inner: &mut Inner) {
        while inner.raw_turn(self.config.raw_connections_max) {
            if inner.open >= self.config.connections_max {
                // The one unused for longest makes room: it is replaced, so the count stays.
                let Some(member) = (!inner.idle.is_empty()).then(|| inner.idle.remove(0)) else {
                    return;
                };
                member.session.terminate();
                inner.open -= 1;
            }
            self.grant_raw(inner);
        }
    }

    /// Gives one place to who has waited longest; nobody may be left by then.
    fn grant_raw(self: &Arc<Self>, inner: &mut Inner) {
        while let Some(waiter) = inner.raw_waiting.pop_front() {
            match waiter.sender.send(RawPlace::new(self.clone())) {
                Ok(()) => {
                    inner.open += 1;
                    inner.raw_open += 1;
                    return;
                }
                // This one gave up: it gets no place, so there is none to give back.
                Err(place) => place.forget(),
            }
        }
    }

    /// A place of the raw lane is free again.
    pub(crate) fn raw_closed_one(self: &Arc<Self>) {
        let mut inner = self.inner.lock();
        inner.raw_open -= 1;
        inner.open -= 1;
        self.place_is_free(&mut inner);
    }

    /// Whoever asked first is served first.
    fn place_is_free(self: &Arc<Self>, inner: &mut Inner) {
        self.serve_raw(inner);
        self.open_if_needed(inner);
    }

    /// Takes a connection back, unless it has reached its age.
    pub(crate) fn put_back(self: &Arc<Self>, mut member: Box<Member>) {
        member.idle_since = Instant::now();
        if member.dies <= member.idle_since {
            return close(self.clone(), member);
        }
        self.give(member);
    }

    /// Gives a connection to whose turn it is.
    fn give(self: &Arc<Self>, mut member: Box<Member>) {
        debug_assert!(
            member.session.is_clean(),
            "B2, B4: a connection comes back from a call that has not ended"
        );
        let mut inner = self.inner.lock();
        if inner.raw_turn(self.config.raw_connections_max) && inner.open >= self.config.connections_max {
            // Another lane's turn: a connection never changes lanes, so this one makes room.
            member.session.terminate();
            inner.open -= 1;
            return self.place_is_free(&mut inner);
        }
        while let Some(waiter) = inner.waiting.pop() {
            match waiter.sender.send(Ok(Lease::new(member, self.clone()))) {
                Ok(()) => return,
                // This one gave up. The lease comes back whole, so nothing is given back twice.
                Err(Ok(lease)) => match lease.take() {
                    Some(same) => member = same,
                    None => return,
                },
                Err(Err(_)) => return,
            }
        }
        inner.idle.push(member);
    }

    /// A connection is gone: there is room for another.
    pub(crate) fn closed_one(self: &Arc<Self>) {
        let mut inner = self.inner.lock();
        inner.open -= 1;
        self.place_is_free(&mut inner);
    }

    /// Starts to open a connection when more callers wait than are being opened for. In a task of its own, so that a
    /// caller that gives up wastes nothing.
    fn open_if_needed(self: &Arc<Self>, inner: &mut Inner) {
        let wanted = inner.waiting.len().min(OPENING_MAX);
        while inner.opening < wanted && inner.open < self.config.connections_max {
            inner.open += 1;
            inner.opening += 1;
            let pool = self.clone();
            tokio::spawn(async move {
                let opened = pool.open().await;
                pool.opened(opened);
            });
        }
    }

    async fn open(&self) -> Result<Box<Member>, Error> {
        let connection = self.connect().await?;
        let now = Instant::now();
        let dies = now + jittered(self.config.life_max, connection.process_id());
        Ok(Box::new(Member {
            session: Session::new(connection),
            timer: Timer::default(),
            dies,
            idle_since: now,
        }))
    }

    /// Opens a connection to the very database that the key was made for.
    pub(crate) async fn connect(&self) -> Result<Connection, Error> {
        let options = Options {
            statements_max: self.config.statements_max,
            ..Options::default()
        };
        let opening = async {
            let mut connection = Connection::connect(self.endpoint.clone(), &options).await?;
            let incarnation = match self.incarnation {
                Some(_) => Some(incarnation(&mut connection).await?),
                None => None,
            };
            Ok((connection, incarnation))
        };
        let connected = tokio::time::timeout(self.config.connect_timeout, opening).await;
        let timed_out = || tenantry_wire::Error::Io(std::io::ErrorKind::TimedOut.into());
        let (connection, incarnation) = connected
            .unwrap_or_else(|_| Err(timed_out()))
            .map_err(|error| Error::Connect(Arc::new(error)))?;
        if incarnation != self.incarnation {
            tracing::error!("a tenant database is not the one that its key was made for: it is not used");
            return Err(Error::Incarnation);
        }
        Ok(connection)
    }

    fn opened(self: &Arc<Self>, opened: Result<Box<Member>, Error>) {
        self.inner.lock().opening -= 1;
        match opened {
            Ok(member) => {
                // Whatever its age: a new connection serves once.
                self.give(member);
                self.open_if_needed(&mut self.inner.lock());
            }
            Err(error) => self.not_opened(error),
        }
    }

    /// Where other connections serve, who waits goes on waiting for those; where there are none, nobody waits in vain.
    fn not_opened(self: &Arc<Self>, error: Error) {
        tracing::warn!(error = %error, "no connection to a tenant database");
        let refused = {
            let mut inner = self.inner.lock();
            inner.open -= 1;
            self.serve_raw(&mut inner);
            if inner.open > inner.raw_open {
                FairQueue::default()
            } else {
                std::mem::take(&mut inner.waiting)
            }
        };
        for waiter in refused {
            let error = match &error {
                Error::Connect(error) => Error::Connect(error.clone()),
                _ => Error::Incarnation,
            };
            let _ = waiter.sender.send(Err(error));
        }
    }

    /// Closes what has lain idle for too long, or has reached its age, or was closed by the server.
    pub(crate) fn shrink(self: &Arc<Self>) {
        let now = Instant::now();
        let mut spent = Vec::new();
        {
            let mut inner = self.inner.lock();
            let idle = std::mem::take(&mut inner.idle);
            for mut member in idle {
                let old = member.dies <= now || now - member.idle_since >= self.config.idle_max;
                if old || member.session.connection().is_closed() {
                    spent.push(member);
                } else {
                    inner.idle.push(member);
                }
            }
        }
        for member in spent {
            close(self.clone(), member);
        }
    }
}

impl Inner {
    fn next_turn(&mut self) -> u64 {
        self.asked += 1;
        self.asked
    }

    /// How many wait, where no more may.
    fn is_full(&mut self, waiting_max: usize) -> Option<usize> {
        if self.waiting.len() + self.raw_waiting.len() >= waiting_max {
            // Those who gave up are still in the queue until their turn comes.
            self.waiting.sweep();
            self.raw_waiting.retain(|waiter| !waiter.sender.is_closed());
        }
        let waiting = self.waiting.len() + self.raw_waiting.len();
        (waiting >= waiting_max).then_some(waiting)
    }

    /// Whether the next place is the raw lane's: it has one left, and its first has waited for longer.
    fn raw_turn(&mut self, raw_max: usize) -> bool {
        while self.raw_waiting.front().is_some_and(|waiter| waiter.sender.is_closed()) {
            self.raw_waiting.pop_front();
        }
        let Some(first) = self.raw_waiting.front().filter(|_| self.raw_open < raw_max.max(1)) else {
            return false;
        };
        self.waiting.front().is_none_or(|other| first.asked < other.asked)
    }

    /// The idle connection that costs least to use for this binding.
    fn best(&mut self, binding: &Binding<'_>) -> Option<Box<Member>> {
        if self.idle.is_empty() {
            return None;
        }
        let bound = self.idle.iter().rposition(|member| member.session.serves(binding));
        let place = bound
            .or_else(|| self.idle.iter().position(|member| !member.session.is_bound()))
            .unwrap_or(0);
        Some(self.idle.remove(place))
    }
}

/// Up to a tenth earlier, so that connections opened together do not end together.
pub(crate) fn jittered(life: Duration, seed: i32) -> Duration {
    life - life / 10 * seed.unsigned_abs().wrapping_mul(2_654_435_761).rem_euclid(100) / 100
}

async fn incarnation(connection: &mut Connection) -> Result<Incarnation, tenantry_wire::Error> {
    let sql = "select c.system_identifier, d.oid from pg_catalog.pg_control_system() c, pg_catalog.pg_database d \
               where d.datname = pg_catalog.current_database()";
    let outcome = connection.query(sql, &[]).await?;
    let row = outcome.rows.first().ok_or(tenantry_wire::Error::Protocol(
        "no answer about the database's identity",
    ))?;
    Ok(Incarnation {
        system_identifier: row.get(0)?,
        database_oid: row.get(1)?,
    })
}
