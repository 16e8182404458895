//! The connections of this process to one server: all its tenant databases share them.
//!
//! One lock holds the whole state, so that "never more than the share" needs no argument over several. It is held for the moment
//! of a step, never over an await. What decides who gets a place stands in [`settle`](crate::settle).

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tenantry_core::TenantId;
use tenantry_wire::Binding;
use tokio::{
    runtime::Handle,
    sync::{Notify, oneshot},
};

use crate::{
    Error, PoolConfig, PoolStatus,
    database::DatabasePool,
    heat::Heat,
    member::{Lease, Member, parting},
    place::{Lane, Place, Stage},
    queue::{FairQueue, Waiter},
    seat::Seat,
    turns::Turns,
};

/// How long a tenant counts as one that others have to be kept room for.
const CONTENDED_FOR: Duration = Duration::from_secs(1);

/// How this process stands with one server.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ServerStatus {
    /// Connections that this process may have there.
    pub share: usize,
    /// Connections that exist, of all lanes, those that are being opened and closed included.
    pub open: usize,
    /// Callers that wait.
    pub waiting: usize,
}

/// The connections of this process to one server.
pub(crate) struct ServerPool {
    pub(super) config: Arc<PoolConfig>,
    pub(super) inner: Mutex<Inner>,
    /// Under a lock of its own, taken last: a connection leaves it wherever it is dropped.
    seats: Mutex<Seats>,
    /// Rings when connections beyond the share are gone, for who has to tell that.
    shrunk: Arc<Notify>,
}

pub(super) struct Inner {
    /// How many connections there may be.
    pub(super) share: usize,
    /// How many there are, of all lanes: idle, lent, being opened, being closed.
    pub(super) open: usize,
    pub(super) opening: usize,
    pub(super) closing: usize,
    /// By slot; a slot is used again when its pool is gone, so that whoever holds a pool meets no other database there.
    pub(super) databases: Vec<Option<Database>>,
    free: Vec<usize>,
    /// Databases with callers that need another connection, by turns.
    pub(super) hungry: VecDeque<usize>,
    /// When who waits is looked at again without anything happening.
    pub(super) alarm: Option<Instant>,
    asked: u64,
    /// How long it took of late to open a connection.
    pub(super) opening_takes: Duration,
    /// There is more than the share, and somebody waits for the news that there is not.
    shrinking: bool,
    /// How many processes divide what plans give.
    processes: usize,
}

/// What one tenant database has and needs.
pub(super) struct Database {
    pub(super) pool: Weak<DatabasePool>,
    /// Least recently used first. While somebody waits who may be served, nothing lies idle.
    #[expect(
        clippy::vec_box,
        reason = "a member is taken out and put back for each call, and is half a kilobyte"
    )]
    pub(super) idle: Vec<Box<Member>>,
    pub(super) waiting: FairQueue<Result<Lease, Error>>,
    pub(super) lanes: [LaneState; 2],
    /// Of each other driver that serves it.
    pub(super) turns: Vec<Turns>,
    /// All that exist, of all lanes: idle, lent, being opened, being closed.
    pub(super) open: usize,
    pub(super) opening: usize,
    /// Of the pool's own lane.
    pub(super) closing: usize,
    /// How many each tenant uses, of the pool's own lane and of other drivers.
    pub(super) lent: HashMap<TenantId, usize>,
    /// What single tenants may have by their plans, over all processes, and of that this process's part.
    pub(super) bounds: HashMap<TenantId, (usize, usize)>,
    last_tenant: Option<TenantId>,
    contended_at: Option<Instant>,
    pub(super) heat: Heat,
    /// Since when it waits for a place; it stands in the queue then.
    pub(super) hungry_since: Option<Instant>,
    /// Another pool leads to the database now: what comes back is closed.
    pub(super) retired: bool,
    /// Nobody holds the pool any more.
    abandoned: bool,
}

/// Those who wait for a place, not for a connection, and what they have.
#[derive(Default)]
pub(super) struct LaneState {
    pub(super) waiting: FairQueue<Result<Place, Error>>,
    pub(super) open: usize,
    /// Of those, connections that are being closed, or that somebody was asked to close.
    pub(super) closing: usize,
    /// Of those, connections that nobody uses, and what closes one of them: for each driver.
    pub(super) idle: Vec<(usize, Weak<dyn Reclaim>)>,
}

impl LaneState {
    /// How many lie idle. Those of a driver that is gone close by themselves, and nobody could be asked to close one.
    pub(super) fn idle(&self) -> usize {
        let living = self.idle.iter().filter(|(_, reclaim)| reclaim.strong_count() > 0);
        living.map(|(idle, _)| idle).sum()
    }
}

/// A connection of a lane that nobody uses any more.
#[derive(Clone, Copy)]
pub(crate) struct CameBack {
    pub(crate) opened: Instant,
    /// Somebody of its own lane waits for it.
    pub(crate) is_sought: bool,
}

/// Closes a connection that nobody uses, and gives its place back. Says so by [`ServerPool::gave_up`], also where there is none any more.
pub(crate) trait Reclaim: Send + Sync {
    fn reclaim(&self);
}

impl ServerPool {
    pub(crate) fn new(config: Arc<PoolConfig>, share: usize, processes: usize, shrunk: Arc<Notify>) -> Arc<Self> {
        Arc::new(Self {
            config,
            inner: Mutex::new(Inner {
                share,
                open: 0,
                opening: 0,
                closing: 0,
                databases: Vec::new(),
                free: Vec::new(),
                hungry: VecDeque::new(),
                alarm: None,
                asked: 0,
                opening_takes: Duration::ZERO,
                shrinking: false,
                processes,
            }),
            seats: Mutex::default(),
            shrunk,
        })
    }

    /// How many connections a tenant may have by its plan, over all processes; `None` where its plan says nothing.
    pub(crate) fn bound(&self, slot: usize, tenant: TenantId, most: Option<usize>) {
        let mut inner = self.inner.lock();
        let processes = inner.processes;
        let Some(database) = &mut inner.databases[slot] else {
            return;
        };
        match most {
            Some(most) => database.bounds.insert(tenant, (most, part(most, processes))),
            None => database.bounds.remove(&tenant),
        };
    }

    /// So many processes divide what plans give.
    pub(crate) fn divide_among(self: &Arc<Self>, processes: usize) {
        let mut inner = self.inner.lock();
        inner.processes = processes;
        for database in inner.databases.iter_mut().flatten() {
            for (most, own) in database.bounds.values_mut() {
                *own = part(*most, processes);
            }
        }
        // Some may have more now.
        let now = Instant::now();
        for database in inner.databases.iter_mut().flatten() {
            database.grant_turns(&self.config, now, u64::MAX);
        }
        self.settle(&mut inner, now);
    }

    /// Takes in another database.
    pub(crate) fn add(&self, pool: Weak<DatabasePool>) -> usize {
        let mut inner = self.inner.lock();
        let database = Some(Database::new(pool));
        match inner.free.pop() {
            Some(slot) => {
                inner.databases[slot] = database;
                slot
            }
            None => {
                inner.databases.push(database);
                inner.databases.len() - 1
            }
        }
    }

    /// Nobody asks by way of this pool any more: its connections are closed as they come back, and who waits is told to ask
    /// where the database is now.
    pub(crate) fn retire(self: &Arc<Self>, slot: usize) {
        let (waiting, places, turns) = {
            let mut inner = self.inner.lock();
            let Some(database) = &mut inner.databases[slot] else {
                return;
            };
            database.retired = true;
            let waiting = std::mem::take(&mut database.waiting);
            let places = Lane::ALL.map(|lane| std::mem::take(&mut database.lanes[lane as usize].waiting));
            let turns: Vec<_> = database
                .turns
                .iter_mut()
                .map(|turns| std::mem::take(&mut turns.waiting))
                .collect();
            while self.evict(&mut inner, slot) {}
            self.settle(&mut inner, Instant::now());
            (waiting, places, turns)
        };
        for waiter in waiting {
            let _ = waiter.sender.send(Err(Error::Readdressed));
        }
        for waiter in places.into_iter().flatten() {
            let _ = waiter.sender.send(Err(Error::Readdressed));
        }
        for waiter in turns.into_iter().flatten() {
            let _ = waiter.sender.send(Err(Error::Readdressed));
        }
    }

    /// Nobody holds the pool any more, so that its slot is free when its last connection is closed.
    pub(crate) fn abandon(self: &Arc<Self>, slot: usize) {
        self.retire(slot);
        let mut inner = self.inner.lock();
        if let Some(database) = &mut inner.databases[slot] {
            database.abandoned = true;
        }
        inner.forget_if_over(slot);
    }

    pub(crate) fn status(&self) -> ServerStatus {
        let inner = self.inner.lock();
        let waiting = inner.databases.iter().flatten().map(Database::waiting).sum();
        ServerStatus {
            share: inner.share,
            open: inner.open,
            waiting,
        }
    }

    pub(crate) fn status_of(&self, slot: usize) -> PoolStatus {
        let inner = self.inner.lock();
        inner.databases[slot]
            .as_ref()
            .map_or_else(PoolStatus::default, |database| PoolStatus {
                open: database.open - database.lanes[Lane::Foreign as usize].open,
                idle: database.idle.len(),
                // Those who wait for another driver are told by that one.
                waiting: database.waiting() - database.waiting_for_turns(),
                raw: database.lanes[Lane::Raw as usize].open,
            })
    }

    /// How many connections there may be from now on. What is there beyond them is closed when nobody uses it.
    pub(crate) fn set_share(self: &Arc<Self>, share: usize) {
        let mut inner = self.inner.lock();
        if inner.share != share {
            inner.share = share;
            inner.shrinking = inner.open > share;
            self.settle(&mut inner, Instant::now());
        }
    }

    /// Whether there may be connections at all. Once there may not, those that have a seat are ended a moment later.
    pub(crate) fn has_share(&self) -> bool {
        self.inner.lock().share > 0
    }

    /// Ends every connection, whoever uses it and by whatever driver: others may take their places soon.
    pub(crate) fn cut_all(&self) {
        let seats: Vec<_> = self.seats.lock().by_number.values().cloned().collect();
        for seat in seats {
            seat.cut();
        }
    }

    /// Takes a connection into the list of those that can be ended from outside.
    pub(crate) fn seat(self: &Arc<Self>, seat: &Arc<Seat>) -> Seated {
        let mut seats = self.seats.lock();
        seats.last += 1;
        let number = seats.last;
        seats.by_number.insert(number, seat.clone());
        Seated {
            server: self.clone(),
            number,
        }
    }

    /// An idle connection: one bound as needed if there is one, else an unbound one, else the one unused for longest. `None` where
    /// none is idle, or the tenant has as many as it may.
    pub(crate) fn take_idle(
        &self,
        pool: &Arc<DatabasePool>,
        binding: &Binding<'_>,
        now: Instant,
    ) -> Option<Box<Member>> {
        let mut inner = self.inner.lock();
        let database = inner.databases[pool.slot()].as_mut()?;
        debug_assert!(
            std::ptr::eq(database.pool.as_ptr(), Arc::as_ptr(pool)),
            "B2: a pool looks among another database's connections"
        );
        database.note_use(binding.tenant, now);
        if database.idle.is_empty() || database.room(&self.config, binding.tenant, now) == 0 {
            return None;
        }
        let member = database.best(binding)?;
        database.heat.warm(now);
        database.lend(binding.tenant);
        Some(member)
    }

    /// Takes a place in the queue; `None` where a connection has come back by now.
    pub(crate) fn queue_up(
        self: &Arc<Self>,
        slot: usize,
        tenant: TenantId,
    ) -> Option<Result<oneshot::Receiver<Result<Lease, Error>>, Error>> {
        let now = Instant::now();
        let mut inner = self.inner.lock();
        let asked = inner.next_turn();
        let Some(database) = inner.databases[slot].as_mut().filter(|database| !database.retired) else {
            return Some(Err(Error::Readdressed));
        };
        if !database.idle.is_empty() && database.room(&self.config, tenant, now) > 0 {
            return None;
        }
        if let Err(error) = database.admit(&self.config, tenant) {
            return Some(Err(error));
        }
        database.heat.warm(now);
        let (sender, receiver) = oneshot::channel();
        database.waiting.push(tenant, Waiter { asked, sender });
        self.needs(&mut inner, slot, now);
        Some(Ok(receiver))
    }

    /// Waits for a place of a lane, by turns among tenants, and in the order of asking among the lanes.
    pub(crate) fn queue_for_place(
        self: &Arc<Self>,
        slot: usize,
        tenant: TenantId,
        lane: Lane,
    ) -> Result<oneshot::Receiver<Result<Place, Error>>, Error> {
        let now = Instant::now();
        let mut inner = self.inner.lock();
        let asked = inner.next_turn();
        let Some(database) = inner.databases[slot].as_mut().filter(|database| !database.retired) else {
            return Err(Error::Readdressed);
        };
        // Who comes by another driver has had its turn, so that no more come than there are turns: it is not refused for those who wait.
        if lane == Lane::Raw {
            database.admit(&self.config, tenant)?;
        }
        database.heat.warm(now);
        let (sender, receiver) = oneshot::channel();
        let waiter = Waiter { asked, sender };
        database.lanes[lane as usize].waiting.push(tenant, waiter);
        self.needs(&mut inner, slot, now);
        Ok(receiver)
    }

    /// Whether the tenant waits because of what it has itself, and not because its database or the server has no more.
    pub(crate) fn is_at_its_limit(&self, slot: usize, tenant: TenantId) -> bool {
        let inner = self.inner.lock();
        inner.databases[slot]
            .as_ref()
            .is_some_and(|database| database.room(&self.config, tenant, Instant::now()) == 0)
    }

    /// Tells how many of a lane's connections nobody uses, and what closes one. Whether the one that came back just now has to be closed.
    pub(crate) fn lane_idles(
        self: &Arc<Self>,
        slot: usize,
        lane: Lane,
        idle: usize,
        reclaim: Weak<dyn Reclaim>,
        came_back: Option<CameBack>,
    ) -> bool {
        let now = Instant::now();
        let mut inner = self.inner.lock();
        let is_beyond = inner.standing() > inner.share;
        let Some(database) = &mut inner.databases[slot] else {
            return true;
        };
        let known = &mut database.lanes[lane as usize].idle;
        known.retain(|(_, other)| other.strong_count() > 0 && !std::ptr::addr_eq(other.as_ptr(), reclaim.as_ptr()));
        known.push((idle, reclaim));
        if database.retired || is_beyond {
            return true;
        }
        if came_back.is_some_and(|one| self.is_others_turn_at_a_lane(&inner, slot, one, now)) {
            return true;
        }
        if !inner.hungry.is_empty() {
            self.settle(&mut inner, now);
        }
        false
    }

    /// Somebody who waited for a place of a lane has found a connection, or has gone.
    pub(crate) fn wants_no_place(self: &Arc<Self>, slot: usize, lane: Lane) {
        let mut inner = self.inner.lock();
        if let Some(database) = &mut inner.databases[slot] {
            database.lanes[lane as usize].waiting.sweep();
        }
        self.settle(&mut inner, Instant::now());
    }

    /// Takes a connection back from the tenant it was lent to, and gives it to whose turn it is.
    pub(crate) fn put_back(self: &Arc<Self>, pool: &Arc<DatabasePool>, mut member: Box<Member>, tenant: TenantId) {
        let slot = pool.slot();
        let now = Instant::now();
        member.idle_since = now;
        member.seat.given_back();
        member.session.forget_begin();
        let clean = member.session.is_clean();
        let mut inner = self.inner.lock();
        let Some(database) = &mut inner.databases[slot] else {
            return;
        };
        database.take_back(tenant);
        let others_wait = database.waiting_for_turns() > 0;
        if others_wait {
            // Who asked by way of another driver before the first of those who wait here may have what the tenant had.
            let before = database.first_in_own_lane(&self.config, now);
            database.grant_turns(&self.config, now, before);
        }
        if clean && member.dies > now && !database.retired && !database.is_full_of_tables(&self.config, &member) {
            self.give(&mut inner, pool, member, now);
        } else {
            self.close(&mut inner, slot, member);
            self.settle(&mut inner, now);
        }
        if others_wait && let Some(database) = &mut inner.databases[slot] {
            database.grant_turns(&self.config, now, u64::MAX);
        }
    }

    /// A connection that was taken from the idle ones, and is closed or too old.
    pub(crate) fn bury(self: &Arc<Self>, slot: usize, member: Box<Member>, tenant: TenantId) {
        let mut inner = self.inner.lock();
        if let Some(database) = &mut inner.databases[slot] {
            database.take_back(tenant);
        }
        self.close(&mut inner, slot, member);
    }

    /// A new connection. Whatever its age: it serves once.
    pub(crate) fn opened(self: &Arc<Self>, pool: &Arc<DatabasePool>, member: Box<Member>, took: Duration) {
        let now = Instant::now();
        let slot = pool.slot();
        let mut inner = self.inner.lock();
        inner.opening -= 1;
        inner.note_opening(took);
        match &mut inner.databases[slot] {
            Some(database) if !database.retired => {
                database.opening -= 1;
                self.give(&mut inner, pool, member, now);
                self.needs_still(&mut inner, slot, now);
            }
            Some(database) => {
                database.opening -= 1;
                self.close(&mut inner, slot, member);
                self.settle(&mut inner, now);
            }
            None => {}
        }
    }

    /// No new connection. Where others serve, who waits goes on waiting for those; where there are none, nobody waits in vain.
    pub(crate) fn not_opened(self: &Arc<Self>, slot: usize, error: &Error) {
        let refused = {
            let mut inner = self.inner.lock();
            inner.opening -= 1;
            inner.open -= 1;
            let mut refused = FairQueue::default();
            if let Some(database) = &mut inner.databases[slot] {
                database.opening -= 1;
                database.open -= 1;
                if database.own_open() == 0 {
                    refused = std::mem::take(&mut database.waiting);
                }
                // Tried again when the next one asks, and not on and on for those who wait.
                database.hungry_since = None;
                inner.hungry.retain(|hungry| *hungry != slot);
            }
            self.tell_shrunk(&mut inner);
            inner.forget_if_over(slot);
            self.settle(&mut inner, Instant::now());
            refused
        };
        for waiter in refused {
            let _ = waiter.sender.send(Err(error.again()));
        }
    }

    /// Gives a connection to whose turn it is.
    pub(super) fn give(
        self: &Arc<Self>,
        inner: &mut Inner,
        pool: &Arc<DatabasePool>,
        mut member: Box<Member>,
        now: Instant,
    ) {
        debug_assert!(
            member.session.is_clean(),
            "B2, B4: a connection comes back from a call that has not ended"
        );
        let slot = pool.slot();
        if inner.standing() > inner.share || self.is_anothers_turn(inner, slot, &member, now) {
            self.close(inner, slot, member);
            return self.settle(inner, now);
        }
        let Some(database) = &mut inner.databases[slot] else {
            return;
        };
        while let Some((tenant, waiter)) = database.next_waiter(&self.config, now) {
            match waiter.sender.send(Ok(Lease::new(member, pool.clone(), tenant))) {
                Ok(()) => {
                    database.lend(tenant);
                    return;
                }
                // This one gave up. The lease comes back whole, so nothing is given back twice.
                Err(Ok(lease)) => match lease.take() {
                    Some(same) => member = same,
                    None => return,
                },
                Err(Err(_)) => return,
            }
        }
        database.idle.push(member);
        if !inner.hungry.is_empty() {
            self.settle(inner, now);
        }
    }

    /// Ends a connection; its place is free when the server has ended its side, so that the bound holds there too.
    pub(super) fn close(self: &Arc<Self>, inner: &mut Inner, slot: usize, member: Box<Member>) {
        inner.closing += 1;
        if let Some(database) = &mut inner.databases[slot] {
            database.closing += 1;
        }
        let server = self.clone();
        match Handle::try_current() {
            Ok(runtime) => {
                let limit = parting(&self.config);
                runtime.spawn(async move {
                    member.end(limit).await;
                    server.closed(slot);
                });
            }
            Err(_) => {
                member.session.terminate();
                inner.is_closed(slot);
            }
        }
    }

    fn closed(self: &Arc<Self>, slot: usize) {
        let mut inner = self.inner.lock();
        inner.is_closed(slot);
        self.after_closing(&mut inner, slot);
    }

    fn after_closing(self: &Arc<Self>, inner: &mut Inner, slot: usize) {
        self.tell_shrunk(inner);
        inner.forget_if_over(slot);
        // It may have been at its own bound.
        self.needs_still(inner, slot, Instant::now());
    }

    /// A place of another lane is free again.
    pub(crate) fn place_given_back(self: &Arc<Self>, slot: usize, lane: Lane, stage: &Stage) {
        let mut inner = self.inner.lock();
        if stage.goes() {
            inner.lane_closes_less(slot, lane);
        }
        inner.open -= 1;
        if let Some(database) = &mut inner.databases[slot] {
            database.open -= 1;
            database.lanes[lane as usize].open -= 1;
        }
        self.after_closing(&mut inner, slot);
    }

    /// The connection of a place is being closed.
    pub(crate) fn place_closes(&self, slot: usize, lane: Lane, stage: &Stage) {
        let mut inner = self.inner.lock();
        if stage.closes() {
            inner.lane_closes_more(slot, lane);
        }
    }

    /// Somebody who was asked to close a connection of a lane does so, with the one of this place, or has none any more.
    pub(crate) fn gave_up(self: &Arc<Self>, slot: usize, lane: Lane, stage: Option<&Stage>) {
        let mut inner = self.inner.lock();
        // It was counted when that was asked, and goes on to count.
        if stage.is_some_and(Stage::closes) {
            return;
        }
        inner.lane_closes_less(slot, lane);
        inner.forget_if_over(slot);
        self.needs_still(&mut inner, slot, Instant::now());
    }

    fn tell_shrunk(&self, inner: &mut Inner) {
        if inner.shrinking && inner.open <= inner.share {
            inner.shrinking = false;
            self.shrunk.notify_one();
        }
    }

    /// Closes what has lain idle for too long, or has reached its age, or was closed by the server; and what was lent for too long.
    pub(crate) fn shrink(self: &Arc<Self>) {
        let now = Instant::now();
        let mut inner = self.inner.lock();
        for slot in 0..inner.databases.len() {
            let Some(database) = &mut inner.databases[slot] else {
                continue;
            };
            database.lent.retain(|_, lent| *lent > 0);
            let mut spent = Vec::new();
            for mut member in std::mem::take(&mut database.idle) {
                let old = member.dies <= now || now - member.idle_since >= self.config.idle_max;
                let full = database.is_full_of_tables(&self.config, &member);
                if old || full || member.session.connection().is_closed() {
                    spent.push(member);
                } else {
                    database.idle.push(member);
                }
            }
            for member in spent {
                self.close(&mut inner, slot, member);
            }
        }
        drop(inner);
        let seats = self.seats.lock();
        let due: Vec<_> = seats
            .by_number
            .values()
            .filter(|seat| seat.is_due(now))
            .cloned()
            .collect();
        drop(seats);
        for seat in due {
            tracing::warn!("a transaction lasted longer than it may: its connection is closed");
            seat.given_back();
            seat.cut();
        }
    }
}

/// The connections that can be ended from outside.
#[derive(Default)]
struct Seats {
    by_number: HashMap<u64, Arc<Seat>>,
    last: u64,
}

/// A connection in the list of those that can be ended from outside; leaves it when dropped.
pub(crate) struct Seated {
    server: Arc<ServerPool>,
    number: u64,
}

impl Drop for Seated {
    fn drop(&mut self) {
        self.server.seats.lock().by_number.remove(&self.number);
    }
}

/// One process's part of what a plan gives: at least one, or a tenant could do nothing here.
fn part(most: usize, processes: usize) -> usize {
    (most / processes.max(1)).max(1)
}

impl Inner {
    /// The next place in the order of asking.
    pub(super) fn next_turn(&mut self) -> u64 {
        self.asked += 1;
        self.asked
    }

    /// How many there are that nobody closes.
    pub(super) fn standing(&self) -> usize {
        // One that somebody was asked to close may have gone otherwise.
        self.open.saturating_sub(self.closing)
    }

    /// One more connection of a lane is being closed, or is asked for.
    pub(super) fn lane_closes_more(&mut self, slot: usize, lane: Lane) {
        if let Some(database) = &mut self.databases[slot] {
            database.lanes[lane as usize].closing += 1;
            self.closing += 1;
        }
    }

    fn lane_closes_less(&mut self, slot: usize, lane: Lane) {
        if let Some(database) = &mut self.databases[slot] {
            database.lanes[lane as usize].closing -= 1;
            self.closing -= 1;
        }
    }

    fn is_closed(&mut self, slot: usize) {
        self.closing -= 1;
        self.open -= 1;
        if let Some(database) = &mut self.databases[slot] {
            database.closing -= 1;
            database.open -= 1;
        }
    }

    /// Forgets a database that nobody uses and that has nothing left.
    pub(super) fn forget_if_over(&mut self, slot: usize) {
        let over = self.databases[slot]
            .as_ref()
            .is_some_and(|database| database.abandoned && database.open == 0 && database.closes() == 0);
        if over {
            self.databases[slot] = None;
            self.hungry.retain(|hungry| *hungry != slot);
            self.free.push(slot);
        }
    }
}

impl Database {
    fn new(pool: Weak<DatabasePool>) -> Self {
        Self {
            pool,
            idle: Vec::new(),
            waiting: FairQueue::default(),
            lanes: Default::default(),
            turns: Vec::new(),
            open: 0,
            opening: 0,
            closing: 0,
            lent: HashMap::new(),
            bounds: HashMap::new(),
            last_tenant: None,
            contended_at: None,
            heat: Heat::default(),
            hungry_since: None,
            retired: false,
            abandoned: false,
        }
    }

    pub(super) fn waiting(&self) -> usize {
        let places: usize = self.lanes.iter().map(|lane| lane.waiting.len()).sum();
        self.waiting.len() + places + self.waiting_for_turns()
    }

    fn waiting_for_turns(&self) -> usize {
        self.turns.iter().map(|turns| turns.waiting.len()).sum()
    }

    /// Those of the pool's own lane that exist.
    pub(super) fn own_open(&self) -> usize {
        self.open - self.lanes.iter().map(|lane| lane.open).sum::<usize>()
    }

    /// Whether it has as many connections as one database may. Other drivers have a bound of their own.
    pub(super) fn is_full(&self, config: &PoolConfig) -> bool {
        self.open - self.lanes[Lane::Foreign as usize].open >= config.connections_max
    }

    /// Those that are being closed, of all lanes.
    pub(super) fn closes(&self) -> usize {
        self.closing + self.lanes.iter().map(|lane| lane.closing).sum::<usize>()
    }

    /// Those that serve, or will come back to serve.
    pub(super) fn established(&self) -> usize {
        self.own_open() - self.closing
    }

    pub(super) fn note_use(&mut self, tenant: TenantId, now: Instant) {
        // A question of the pool's own takes nothing from a tenant.
        if tenant.as_uuid().is_nil() {
            return;
        }
        if self.last_tenant != Some(tenant) && self.last_tenant.replace(tenant).is_some() {
            self.contended_at = Some(now);
        }
    }

    /// How many connections one tenant may have.
    fn limit(&self, config: &PoolConfig, tenant: TenantId, now: Instant) -> usize {
        let by_plan = match self.bounds.is_empty() {
            true => usize::MAX,
            false => self.bounds.get(&tenant).map_or(usize::MAX, |(_, own)| *own),
        };
        self.limit_of_each(config, now).min(by_plan)
    }

    /// The same where nothing is said of a tenant. Alone it is bounded as its database is, for each driver apart.
    pub(super) fn limit_of_each(&self, config: &PoolConfig, now: Instant) -> usize {
        let contended = self
            .contended_at
            .is_some_and(|at| now.saturating_duration_since(at) < CONTENDED_FOR);
        match contended {
            true => config.tenant_connections_max.max(1),
            false => usize::MAX,
        }
    }

    /// How many more connections the tenant may have.
    pub(super) fn room(&self, config: &PoolConfig, tenant: TenantId, now: Instant) -> usize {
        self.limit(config, tenant, now)
            .saturating_sub(self.lent.get(&tenant).copied().unwrap_or(0))
    }

    fn lend(&mut self, tenant: TenantId) {
        *self.lent.entry(tenant).or_insert(0) += 1;
    }

    pub(super) fn take_back(&mut self, tenant: TenantId) {
        if let Some(lent) = self.lent.get_mut(&tenant) {
            *lent = lent.saturating_sub(1);
        }
    }

    fn next_waiter(&mut self, config: &PoolConfig, now: Instant) -> Option<(TenantId, Waiter<Result<Lease, Error>>)> {
        let (each, lent, bounds) = (self.limit_of_each(config, now), &self.lent, &self.bounds);
        self.waiting.pop_where(|tenant| {
            let limit = bounds.get(&tenant).map_or(each, |(_, own)| each.min(*own));
            lent.get(&tenant).is_none_or(|lent| *lent < limit)
        })
    }

    /// Whether one more caller of this tenant may wait.
    pub(super) fn admit(&mut self, config: &PoolConfig, tenant: TenantId) -> Result<(), Error> {
        let of_tenant = |database: &Self| {
            let places = database.lanes.iter().map(|lane| lane.waiting.len_of(tenant));
            let turns = database.turns.iter().map(|turns| turns.waiting.len_of(tenant));
            database.waiting.len_of(tenant) + places.chain(turns).sum::<usize>()
        };
        if of_tenant(self) >= config.tenant_waiting_max || self.waiting() >= config.waiting_max {
            // Those who gave up are still in the queue until their turn comes.
            self.waiting.sweep();
            for lane in &mut self.lanes {
                lane.waiting.sweep();
            }
            for turns in &mut self.turns {
                turns.waiting.sweep();
            }
        }
        if of_tenant(self) >= config.tenant_waiting_max {
            return Err(Error::TenantFull(of_tenant(self)));
        }
        let waiting = self.waiting();
        if waiting < config.waiting_max {
            return Ok(());
        }
        // Not for what others ask: whoever has more waiters than anybody loses one.
        if let Some(other) = self.waiting.pop_of_longest(tenant) {
            let _ = other.sender.send(Err(Error::Full(waiting)));
            return Ok(());
        }
        let mut of_drivers = self.turns.iter_mut();
        match of_drivers.find_map(|turns| turns.waiting.pop_of_longest(tenant)) {
            Some(other) => {
                let _ = other.sender.send(Err(Error::Full(waiting)));
                Ok(())
            }
            None => Err(Error::Full(waiting)),
        }
    }

    /// Whether its backend remembers more tables than it may. While somebody waits, half as many again.
    fn is_full_of_tables(&self, config: &PoolConfig, member: &Member) -> bool {
        let tables = member.touched.len() * config.tables_per_schema;
        let most = match self.waiting.len() {
            0 => config.touched_tables_max,
            _ => config.touched_tables_max + config.touched_tables_max / 2,
        };
        // One schema alone is served whatever its size.
        member.touched.len() > 1 && tables > most
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
