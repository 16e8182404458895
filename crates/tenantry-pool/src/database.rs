//! One tenant database: how it is reached, and the calls' way to its connections.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tenantry_core::{TenantId, seal::Place};
use tenantry_wire::{Binding, Connection, Endpoint, Options, Session};
use tokio::{runtime::Handle, sync::oneshot};

use crate::{
    Entrance, Error, Home, Incarnation, PoolConfig, counts,
    member::{Lease, Member, parting},
    place::{self, Lane},
    seat::Seat,
    server::{Seated, ServerPool},
    timer::Timer,
    turns::Turn,
};

/// The source of placements is not asked more often than this because a database lets nobody in.
const REFRESH_EVERY: Duration = Duration::from_secs(1);

/// How a tenant database is reached, and what has to be found there.
#[derive(Clone)]
pub(crate) struct Way {
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) incarnation: Option<Incarnation>,
    /// By a pooler in transaction mode.
    pub(crate) pooled: bool,
    /// On a standby of its server.
    pub(crate) standby: bool,
}

impl Way {
    fn is_same(&self, other: &Self) -> bool {
        self.incarnation == other.incarnation
            && (self.pooled, self.standby) == (other.pooled, other.standby)
            && (Arc::ptr_eq(&self.endpoint, &other.endpoint) || self.endpoint.same_as(&other.endpoint))
    }
}

impl From<&Home> for Way {
    fn from(home: &Home) -> Self {
        Self {
            endpoint: home.endpoint.clone(),
            incarnation: home.incarnation,
            pooled: home.pooled,
            standby: false,
        }
    }
}

impl From<&Entrance> for Way {
    fn from(entrance: &Entrance) -> Self {
        Self {
            endpoint: entrance.endpoint.clone(),
            incarnation: entrance.incarnation,
            pooled: entrance.pooled,
            standby: false,
        }
    }
}

/// The connections to one tenant database.
pub(crate) struct DatabasePool {
    way: Way,
    config: Arc<PoolConfig>,
    server: Arc<ServerPool>,
    slot: usize,
    refreshed_at: Mutex<Option<Instant>>,
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

impl Drop for DatabasePool {
    fn drop(&mut self) {
        // In a task: the last handle may be dropped under the server's lock.
        if let Ok(runtime) = Handle::try_current() {
            let (server, slot) = (self.server.clone(), self.slot);
            runtime.spawn(async move { server.abandon(slot) });
        }
    }
}

impl DatabasePool {
    pub(crate) fn new(way: Way, config: Arc<PoolConfig>, server: Arc<ServerPool>) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            slot: server.add(this.clone()),
            way,
            config,
            server,
            refreshed_at: Mutex::new(None),
        })
    }

    pub(crate) fn server(&self) -> &Arc<ServerPool> {
        &self.server
    }

    pub(crate) fn slot(&self) -> usize {
        self.slot
    }

    /// Whether the pool leads there.
    pub(crate) fn leads_to(&self, way: &Way) -> bool {
        self.way.is_same(way)
    }

    /// What leaves something in its session, or relies on one, is refused where a pooler lends sessions.
    pub(crate) fn require_sessions(&self) -> Result<(), Error> {
        match self.way.pooled {
            true => Err(Error::NeedsSession),
            false => Ok(()),
        }
    }

    /// Closes what is idle, and from now on what comes back: another pool leads there.
    pub(crate) fn retire(&self) {
        self.server.retire(self.slot);
    }

    /// Whether it is worth asking where the database is: nobody has asked just now.
    pub(crate) fn may_refresh(&self) -> bool {
        let mut refreshed_at = self.refreshed_at.lock();
        let now = Instant::now();
        let may = refreshed_at.is_none_or(|at| now.saturating_duration_since(at) >= REFRESH_EVERY);
        if may {
            *refreshed_at = Some(now);
        }
        may
    }

    pub(crate) fn status(&self) -> PoolStatus {
        self.server.status_of(self.slot)
    }

    /// Lends an idle connection, if there is one that the tenant may have.
    pub(crate) fn lease_idle(self: &Arc<Self>, binding: &Binding<'_>, now: Instant) -> Option<Lease> {
        let mut lease = self.take_idle(binding, now)?;
        lease.touch(binding.schema);
        Some(lease)
    }

    fn take_idle(self: &Arc<Self>, binding: &Binding<'_>, now: Instant) -> Option<Lease> {
        loop {
            let mut member = self.server.take_idle(self, binding, now)?;
            // Looked at outside of the lock.
            if member.dies <= now || member.session.connection().is_closed() {
                self.server.bury(self.slot, member, binding.tenant);
                continue;
            }
            debug_assert!(member.session.is_clean(), "B4: a connection in doubt is lent");
            return Some(Lease::new(member, self.clone(), binding.tenant));
        }
    }

    /// Lends a connection, and waits for one: in the order of asking within a tenant, by turns among tenants.
    pub(crate) async fn lease(self: &Arc<Self>, binding: &Binding<'_>) -> Result<Lease, Error> {
        let mut lease = self.lease_untouched(binding).await?;
        lease.touch(binding.schema);
        Ok(lease)
    }

    /// The same for what meets the tables of no schema.
    pub(crate) async fn lease_untouched(self: &Arc<Self>, binding: &Binding<'_>) -> Result<Lease, Error> {
        loop {
            if let Some(lease) = self.take_idle(binding, Instant::now()) {
                return Ok(lease);
            }
            let Some(queued) = self.server.queue_up(self.slot, binding.tenant) else {
                continue;
            };
            return self.wait(binding.tenant, queued?).await;
        }
    }

    async fn wait<T>(&self, tenant: TenantId, receiver: oneshot::Receiver<Result<T, Error>>) -> Result<T, Error> {
        let limit = self.config.wait_timeout;
        let since = Instant::now();
        let answered = tokio::time::timeout(limit, receiver).await;
        counts::waited(since.elapsed());
        match answered {
            Ok(Ok(granted)) => granted,
            Ok(Err(_)) | Err(_) if self.server.is_at_its_limit(self.slot, tenant) => Err(Error::TenantBusy(limit)),
            Ok(Err(_)) | Err(_) => Err(Error::WaitTimeout(limit)),
        }
    }

    /// A place for a connection of another lane.
    pub(crate) async fn place(self: &Arc<Self>, tenant: TenantId, lane: Lane) -> Result<place::Place, Error> {
        let receiver = self.server.queue_for_place(self.slot, tenant, lane)?;
        match (lane, self.wait(tenant, receiver).await) {
            // Its turn is counted already: what it had to wait for is the server's.
            (Lane::Foreign, Err(Error::TenantBusy(limit))) => Err(Error::WaitTimeout(limit)),
            (_, granted) => granted,
        }
    }

    /// A turn on the connections of another driver.
    ///
    /// # Cancel safety
    ///
    /// When dropped, the caller's place in the queue is free, and so is a turn that it was given.
    pub(crate) async fn turn(&self, driver: usize, tenant: TenantId) -> Result<Turn, Error> {
        let mut receiver = self.server.queue_for_turn(self.slot, driver, tenant)?;
        match receiver.try_recv() {
            Ok(granted) => granted,
            // Not yet.
            Err(_) => self.wait(tenant, receiver).await,
        }
    }

    /// Takes a connection back, unless it is in doubt or spent.
    pub(crate) fn put_back(self: &Arc<Self>, member: Box<Member>, tenant: TenantId) {
        self.server.put_back(self, member, tenant);
    }

    /// Opens a connection, for which the server has counted a place.
    pub(crate) async fn open_one(self: Arc<Self>) {
        let since = Instant::now();
        match self.open().await {
            Ok(member) => {
                counts::opened();
                self.server.opened(&self, member, since.elapsed());
            }
            Err(error) => {
                counts::not_opened();
                tracing::warn!(error = %error, "no connection to a tenant database");
                self.server.not_opened(self.slot, &error);
            }
        }
    }

    async fn open(&self) -> Result<Box<Member>, Error> {
        let (connection, place) = self.connect().await?;
        let seat = seat(&connection)?;
        let now = Instant::now();
        let dies = now + jittered(self.config.life_max, connection.process_id());
        Ok(Box::new(Member {
            _seated: self.server.seat(&seat),
            seat,
            session: Session::new(connection).at(place),
            timer: Timer::default(),
            opened: now,
            dies,
            idle_since: now,
            touched: Vec::new(),
        }))
    }

    /// Opens a connection for a place of a lane, and what ends it from outside.
    pub(crate) async fn connect_seated(&self) -> Result<(Connection, Seated), Error> {
        let (connection, _) = self.connect().await?;
        let seated = self.server.seat(&seat(&connection)?);
        // Asked after it has a seat: a share that is lost from here on takes this connection along.
        if !self.server.has_share() {
            self.part(connection).await;
            return Err(Error::WaitTimeout(self.config.wait_timeout));
        }
        Ok((connection, seated))
    }

    /// Opens a connection to the very database that the key was made for, and tells where its backend runs.
    async fn connect(&self) -> Result<(Connection, Place), Error> {
        let options = Options {
            statements_max: self.config.statements_max,
            pooled: self.way.pooled,
            ..Options::default()
        };
        let opening = async {
            let mut connection = Connection::connect(self.way.endpoint.clone(), &options).await?;
            let incarnation = match self.way.incarnation {
                Some(_) => Some(incarnation(&mut connection).await?),
                None => None,
            };
            let place = match self.way.standby {
                true => standby(&mut connection).await?,
                false => Some(Place::PRIMARY),
            };
            Ok((connection, incarnation, place))
        };
        let connected = tokio::time::timeout(self.config.connect_timeout, opening).await;
        let timed_out = || tenantry_wire::Error::Io(std::io::ErrorKind::TimedOut.into());
        let (connection, incarnation, place) = connected
            .unwrap_or_else(|_| Err(timed_out()))
            .map_err(|error| Error::Connect(Arc::new(error)))?;
        let Some(place) = place else {
            tracing::error!("what is listed as a replica takes writes of its own: it is not read from");
            self.part(connection).await;
            return Err(Error::NotStandby);
        };
        if incarnation != self.way.incarnation {
            tracing::error!("a tenant database is not the one that its key was made for: it is not used");
            self.part(connection).await;
            return Err(Error::Incarnation);
        }
        Ok((connection, place))
    }

    /// Says good-bye to a server that may not listen any more: its place is waited for.
    async fn part(&self, connection: Connection) {
        let _ = tokio::time::timeout(2 * parting(&self.config), connection.end()).await;
    }
}

fn seat(connection: &Connection) -> Result<Arc<Seat>, Error> {
    let leash = connection.leash().map_err(|error| Error::Connect(Arc::new(error)))?;
    Ok(Seat::new(leash))
}

/// Up to a tenth earlier, so that connections opened together do not end together.
pub(crate) fn jittered(life: Duration, seed: i32) -> Duration {
    life - life / 10 * seed.unsigned_abs().wrapping_mul(2_654_435_761).rem_euclid(100) / 100
}

/// Which standby it is, as tokens name it; `None` where it is none.
async fn standby(connection: &mut Connection) -> Result<Option<Place>, tenantry_wire::Error> {
    let sql =
        "select pg_catalog.pg_is_in_recovery(), pg_catalog.timestamptz_send(pg_catalog.pg_postmaster_start_time())";
    let outcome = connection.query(sql, &[]).await?;
    let no_answer = tenantry_wire::Error::Protocol("no answer about the standby");
    let row = outcome.rows.first().ok_or(no_answer)?;
    let started: Vec<u8> = row.get(1)?;
    let place = <[u8; 8]>::try_from(started).map(Place::standby).ok();
    Ok(place.filter(|_| row.get(0).unwrap_or(false)))
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
