//! Who gets a place among a server's connections.
//!
//! Databases that need one take turns. While the share is not used up, that is all. When it is, some other database has to give
//! one up, and opening a connection costs as much as a hundred calls, so:
//!
//! - The connection of the database that was used least lately ([`Heat`]) goes first, and at once where it is cold, or much less
//!   in use than the one that asks.
//! - Else the one that asks waits a moment ([`PoolConfig::patience`](crate::PoolConfig)): for a connection of its own, or a colder
//!   one, to come back. Then it takes the coldest that lies idle.
//! - Where none lies idle, it gets the next that comes back and has served its database for a while
//!   ([`PoolConfig::turn`](crate::PoolConfig)). So nobody starves, and what turns cost is bounded.
//! - A lane that waits, where its database has idle connections in another one, waits a moment too before it takes one of those.
//! - A database that has connections waits for those, unless another's lies idle and is much less in use; and one that has none
//!   comes before it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::runtime::Handle;

use crate::{
    PoolConfig,
    heat::Heat,
    member::Member,
    place::{Lane, Place},
    server::{CameBack, Database, Inner, LaneState, ServerPool},
};

/// Connections to one database that are opened at the same time.
const OPENING_MAX: usize = 4;
/// The same for a server: one that comes back is not met by all of them at once.
const OPENING_MAX_SERVER: usize = 16;
/// However long it takes to open a connection.
const PATIENCE_MAX: Duration = Duration::from_millis(500);

impl ServerPool {
    /// A database has one more caller that waits.
    pub(super) fn needs(self: &Arc<Self>, inner: &mut Inner, slot: usize, now: Instant) {
        let Some(database) = &mut inner.databases[slot] else {
            return;
        };
        if database.hungry_since.is_none() {
            database.hungry_since = Some(now);
            inner.hungry.push_back(slot);
        }
        self.settle(inner, now);
    }

    /// The same where something has changed and somebody may wait.
    pub(super) fn needs_still(self: &Arc<Self>, inner: &mut Inner, slot: usize, now: Instant) {
        let waits = inner.databases[slot]
            .as_ref()
            .is_some_and(|database| database.waiting() > 0);
        match waits {
            true => self.needs(inner, slot, now),
            false => self.settle(inner, now),
        }
    }

    /// After any change: gives places to who needs them, by turns, and sees to places where there are none.
    pub(super) fn settle(self: &Arc<Self>, inner: &mut Inner, now: Instant) {
        for _ in inner.share..inner.standing() {
            let Some(coldest) = inner.coldest(now) else { break };
            if !self.evict(inner, coldest) {
                break;
            }
        }
        inner.let_the_empty_ahead();
        let mut looked_at = 0;
        while looked_at < inner.hungry.len() {
            let Some(slot) = inner.hungry.pop_front() else { return };
            match self.serve(inner, slot, now) {
                Served::Enough => {}
                Served::Some => {
                    inner.hungry.push_back(slot);
                    looked_at = 0;
                }
                Served::Nothing => {
                    inner.hungry.push_back(slot);
                    looked_at += 1;
                }
            }
        }
        if inner.open >= inner.share && !inner.hungry.is_empty() && inner.share > 0 {
            self.make_room(inner, now);
        }
    }

    /// Gives a database one place, if there is one and it needs one.
    fn serve(self: &Arc<Self>, inner: &mut Inner, slot: usize, now: Instant) -> Served {
        let has_place = inner.open < inner.share && inner.opening < OPENING_MAX_SERVER;
        let Some(database) = &mut inner.databases[slot] else {
            return Served::Enough;
        };
        for lane in &mut database.lanes {
            // Nobody gives way for those who have gone.
            if lane
                .waiting
                .front_where(|_| true)
                .is_some_and(|first| first.sender.is_closed())
            {
                lane.waiting.sweep();
            }
        }
        let Some(mut need) = database.need(self, now) else {
            database.hungry_since = None;
            return Served::Enough;
        };
        if need != Need::Place(Lane::Foreign) && database.is_full(&self.config) {
            // Its own bound. The raw lane's turn is made by one of its own that lies idle.
            let makes_room =
                need == Need::Place(Lane::Raw) && database.closing + database.lanes[Lane::Raw as usize].closing == 0;
            let others_wait = database.lanes[Lane::Foreign as usize].waiting.len() > 0;
            if !others_wait {
                database.hungry_since = None;
            }
            if makes_room {
                self.evict(inner, slot);
            }
            if !others_wait {
                return Served::Enough;
            }
            // Other drivers have a bound of their own: who waits for room within this one stands in nobody's way there.
            need = Need::Place(Lane::Foreign);
        }
        if !has_place {
            return Served::Nothing;
        }
        let Some(database) = &mut inner.databases[slot] else {
            return Served::Enough;
        };
        let Some(pool) = database.pool.upgrade() else {
            database.hungry_since = None;
            return Served::Enough;
        };
        database.hungry_since = Some(now);
        match need {
            Need::Connection => {
                let Ok(runtime) = Handle::try_current() else {
                    return Served::Nothing;
                };
                database.open += 1;
                database.opening += 1;
                inner.open += 1;
                inner.opening += 1;
                // In a task of its own, so that a caller that gives up wastes nothing.
                runtime.spawn(async move { pool.open_one().await });
            }
            Need::Place(lane) => {
                let Some((_, waiter)) = database.lanes[lane as usize].waiting.pop_where(|_| true) else {
                    return Served::Nothing;
                };
                match waiter.sender.send(Ok(Place::new(pool, lane))) {
                    Ok(()) => {
                        database.open += 1;
                        database.lanes[lane as usize].open += 1;
                        inner.open += 1;
                    }
                    // This one gave up: it gets no place, so there is none to give back.
                    Err(Ok(place)) => place.forget(),
                    Err(Err(_)) => {}
                }
            }
        }
        Served::Some
    }

    /// The share is used up: for each database that waits, beyond the places that will be free anyway, one gives way.
    fn make_room(self: &Arc<Self>, inner: &mut Inner, now: Instant) {
        let mut coming = inner.closing;
        let mut again: Option<Instant> = None;
        for turn in 0..inner.hungry.len() {
            if coming > 0 {
                coming -= 1;
                continue;
            }
            let slot = inner.hungry[turn];
            let beside = inner.has_idle_beside(slot);
            // Of this lane none comes back, ever.
            if beside && inner.needs_raw(slot, self, now) {
                self.evict(inner, slot);
                continue;
            }
            let victim = inner.coldest_but(slot, now);
            if victim.is_none() && !beside {
                break;
            }
            let Some(asks) = &inner.databases[slot] else { continue };
            let asks_heat = asks.heat.at(now);
            let since = asks.hungry_since.unwrap_or(now);
            let patience = inner.patience(&self.config);
            let waited = now.saturating_duration_since(since) >= patience;
            // What it has shares the work.
            let has = asks.established();
            let victim_heat = victim.and_then(|victim| Some((victim, inner.databases[victim].as_ref()?.heat.at(now))));
            let colder = victim_heat.filter(|(_, gives_heat)| match has {
                0 => Heat::gives_way(*gives_heat, asks_heat),
                _ => waited && Heat::gives_way(*gives_heat, asks_heat / (has + 1) as f32),
            });
            let gives = match (colder, victim) {
                (Some((victim, _)), _) => Some(victim),
                // What it has itself in another lane takes nothing from anybody, but is opened again for the next call there: it is
                // not closed before one of the lane that waits had the time to come back.
                (None, _) if beside => waited.then_some(slot),
                (None, victim) if waited && has == 0 => victim,
                _ => None,
            };
            if let Some(gives) = gives {
                self.evict(inner, gives);
            } else {
                let then = match waited {
                    // Heats change.
                    true => now + 10 * patience,
                    false => since + patience,
                };
                again = Some(again.map_or(then, |again| again.min(then)));
            }
        }
        if let Some(again) = again {
            self.look_again(inner, again);
        }
    }

    fn look_again(self: &Arc<Self>, inner: &mut Inner, at: Instant) {
        if inner.alarm.is_some_and(|alarm| alarm <= at) {
            return;
        }
        let Ok(runtime) = Handle::try_current() else { return };
        inner.alarm = Some(at);
        let server = Arc::downgrade(self);
        runtime.spawn(async move {
            tokio::time::sleep_until(at.into()).await;
            let Some(server) = server.upgrade() else { return };
            let mut inner = server.inner.lock();
            if inner.alarm == Some(at) {
                inner.alarm = None;
                server.settle(&mut inner, Instant::now());
            }
        });
    }

    /// Closes an idle connection of a database, its least recently used; whether there was one.
    pub(super) fn evict(self: &Arc<Self>, inner: &mut Inner, slot: usize) -> bool {
        let Some(database) = &mut inner.databases[slot] else {
            return false;
        };
        if !database.idle.is_empty() {
            let member = database.idle.remove(0);
            self.close(inner, slot, member);
            return true;
        }
        let Ok(runtime) = Handle::try_current() else {
            return false;
        };
        for lane in Lane::ALL {
            for (idle, reclaim) in &mut database.lanes[lane as usize].idle {
                if *idle > 0
                    && let Some(reclaim) = reclaim.upgrade()
                {
                    *idle -= 1;
                    inner.lane_closes_more(slot, lane);
                    // Outside of the lock: it has one of its own.
                    runtime.spawn(async move { reclaim.reclaim() });
                    return true;
                }
            }
        }
        false
    }

    /// Whether a connection that comes back has to make room: for a lane whose first has waited for longer, or for another
    /// database that has waited for long enough, where none lies idle.
    pub(super) fn is_anothers_turn(&self, inner: &Inner, slot: usize, member: &Member, now: Instant) -> bool {
        let Some(database) = &inner.databases[slot] else {
            return false;
        };
        let no_place = inner.open >= inner.share;
        let raw_closes = database.lanes[Lane::Raw as usize].closing;
        let makes_room = match database.need(self, now) {
            Some(Need::Place(Lane::Raw)) if database.is_full(&self.config) => database.closing + raw_closes == 0,
            Some(Need::Place(Lane::Raw)) => no_place && database.closes() == 0,
            // One of its own may come back.
            Some(Need::Place(Lane::Foreign)) => {
                // Where it does not stand in the queue, calls of its own lane had asked before.
                let has_waited = database.hungry_since.is_none() || inner.has_waited(database, &self.config, now);
                no_place && database.closes() == 0 && has_waited
            }
            _ => false,
        };
        if makes_room {
            return true;
        }
        if inner.hungry.is_empty()
            || inner.open < inner.share
            || database.waiting.len() == 0
            || now.saturating_duration_since(member.opened) < self.config.turn
        {
            return false;
        }
        let Some(first) = inner.hungry.get(inner.closing).filter(|first| **first != slot) else {
            return false;
        };
        let Some(other) = &inner.databases[*first] else {
            return false;
        };
        inner.has_waited(other, &self.config, now)
            && (other.established() == 0 || other.established() + 1 < database.established())
    }

    /// The same of a connection of another lane: whether it has to make room for another lane, or another database, that has waited for
    /// long enough.
    pub(super) fn is_others_turn_at_a_lane(&self, inner: &Inner, slot: usize, one: CameBack, now: Instant) -> bool {
        if inner.open < inner.share || now.saturating_duration_since(one.opened) < self.config.turn {
            return false;
        }
        // Those before have what is being closed.
        let Some(first) = inner.hungry.get(inner.closing) else {
            return false;
        };
        let Some(other) = &inner.databases[*first] else {
            return false;
        };
        let is_others = match *first == slot {
            true => !one.is_sought,
            false => other.established() == 0,
        };
        is_others && inner.has_waited(other, &self.config, now)
    }
}

enum Served {
    /// It needs nothing more.
    Enough,
    /// It got a place, and may need another.
    Some,
    /// It needs one, and there is none.
    Nothing,
}

/// What a database needs a place for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Need {
    Connection,
    Place(Lane),
}

impl Inner {
    /// Those that have no connection come before those that have some; otherwise the turns stay.
    fn let_the_empty_ahead(&mut self) {
        let (databases, hungry) = (&self.databases, &mut self.hungry);
        if hungry.len() > 1 {
            hungry.make_contiguous().sort_by_key(|slot| {
                databases[*slot]
                    .as_ref()
                    .is_some_and(|database| database.established() > 0)
            });
        }
    }

    /// How long a caller waits before another database has to give way: not less than it takes to open a connection, or while one
    /// is opened for a stray call, a second database that is missing its own would take a third one's.
    fn patience(&self, config: &PoolConfig) -> Duration {
        let opening = self.opening_takes + self.opening_takes / 2;
        opening.clamp(config.patience, config.patience.max(PATIENCE_MAX))
    }

    fn needs_raw(&self, slot: usize, server: &ServerPool, now: Instant) -> bool {
        let database = self.databases[slot].as_ref();
        database.and_then(|database| database.need(server, now)) == Some(Need::Place(Lane::Raw))
    }

    /// Whether a database has waited for a place for long enough that others give way.
    fn has_waited(&self, database: &Database, config: &PoolConfig, now: Instant) -> bool {
        let since = database.hungry_since;
        since.is_some_and(|since| now.saturating_duration_since(since) >= self.patience(config))
    }

    /// A connection was opened, and took so long.
    pub(super) fn note_opening(&mut self, took: Duration) {
        self.opening_takes = (self.opening_takes * 3 + took) / 4;
    }

    /// The database whose idle connection is given up first.
    fn coldest(&self, now: Instant) -> Option<usize> {
        self.coldest_but(usize::MAX, now)
    }

    /// Whether a database that waits has connections that nobody uses in another lane than the one that waits: those who wait in a lane
    /// would have taken its own.
    fn has_idle_beside(&self, slot: usize) -> bool {
        self.databases[slot]
            .as_ref()
            .is_some_and(|database| !database.idle.is_empty() || database.lanes.iter().any(|lane| lane.idle() > 0))
    }

    /// The same among the others. One that waits itself has nothing to give.
    fn coldest_but(&self, but: usize, now: Instant) -> Option<usize> {
        let mut coldest: Option<(f32, usize)> = None;
        for (slot, database) in self.databases.iter().enumerate() {
            let Some(database) = database else { continue };
            let idle = database.idle.len() + database.lanes.iter().map(LaneState::idle).sum::<usize>();
            if slot == but || idle == 0 {
                continue;
            }
            // Each of several does a part of the work.
            let heat = database.heat.at(now) / idle as f32;
            if coldest.is_none_or(|(least, _)| heat < least) {
                coldest = Some((heat, slot));
            }
        }
        coldest.map(|(_, slot)| slot)
    }
}

impl Database {
    /// What the next place is for, in the order of asking; `None` where nobody waits who may be served, or enough is under way.
    pub(super) fn need(&self, server: &ServerPool, now: Instant) -> Option<Need> {
        let config = &server.config;
        let opening = self.opening;
        let room = |tenant| self.room(config, tenant, now);
        let connection = (opening < OPENING_MAX && self.waiting.count_where(opening + 1, room) > opening)
            .then(|| self.waiting.front_where(|tenant| room(tenant) > 0))
            .flatten()
            .map(|waiter| (waiter.asked, Need::Connection));
        let places = Lane::ALL.into_iter().filter_map(|lane| {
            let state = &self.lanes[lane as usize];
            let most = match lane {
                Lane::Raw => config.raw_connections_max.max(1),
                // Each driver bounds its own.
                Lane::Foreign => usize::MAX,
            };
            let first = state.waiting.front_where(|_| true).filter(|_| state.open < most)?;
            Some((first.asked, Need::Place(lane)))
        });
        let first = connection.into_iter().chain(places).min_by_key(|(asked, _)| *asked);
        first.map(|(_, need)| need)
    }
}
