//! The connections of this process to one server: all its tenant databases share them.
//!
//! One lock holds the whole state, so that "never more than the share" needs no argument over several. It is held for the moment
//! of a step, never over an await. What decides who gets a place stands in [`settle`](crate::settle).

mod database;
mod lane;
mod lending;
mod seats;

pub(crate) use database::Database;
pub(crate) use lane::{CameBack, LaneState, Reclaim};
pub(crate) use seats::Seated;

use std::{
    collections::VecDeque,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tenantry_core::TenantId;
use tokio::sync::Notify;

use crate::{Error, PoolConfig, PoolStatus, database::DatabasePool, place::Lane};
use seats::Seats;

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

    fn after_closing(self: &Arc<Self>, inner: &mut Inner, slot: usize) {
        self.tell_shrunk(inner);
        inner.forget_if_over(slot);
        // It may have been at its own bound.
        self.needs_still(inner, slot, Instant::now());
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
        self.cut_overdue(now);
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
