//! Turns on the connections of other drivers: who may use one, by turns among tenants and within what each may have.
//!
//! A turn is the right to use a connection, and a [`Place`](crate::place::Place) the right to have one: a driver keeps connections
//! that nobody uses, and counts against a tenant only what it is using. What a tenant has counts over all drivers and the pool's own
//! lane together, so that none of them is a way around its limit.

use std::{sync::Arc, time::Instant};

use tenantry_core::TenantId;
use tokio::sync::oneshot;

use crate::{
    Error, PoolConfig,
    database::DatabasePool,
    queue::{FairQueue, Waiter},
    server::{Database, Inner, ServerPool},
};

/// The right of one caller to use a connection of another driver. Dropping it gives it to whose turn it is next, so it is held until the
/// connection serves nobody, or has ended.
pub(crate) struct Turn {
    pool: Option<Arc<DatabasePool>>,
    driver: usize,
    tenant: TenantId,
}

impl Turn {
    /// It reached nobody: it was never counted.
    fn forget(mut self) {
        self.pool = None;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.take() {
            pool.server().turn_given_back(pool.slot(), self.driver, self.tenant);
        }
    }
}

/// What the callers of one driver have, and who of them waits.
#[derive(Default)]
pub(super) struct Turns {
    pub(super) waiting: FairQueue<Result<Turn, Error>>,
    taken: usize,
}

impl ServerPool {
    /// Another driver serves this database from here on; gives its number there.
    pub(crate) fn add_driver(&self, slot: usize) -> usize {
        let mut inner = self.inner.lock();
        let Some(database) = &mut inner.databases[slot] else {
            return 0;
        };
        database.turns.push(Turns::default());
        database.turns.len() - 1
    }

    /// How many of a driver's callers have a turn, and how many wait for one.
    pub(crate) fn turns_of(&self, slot: usize, driver: usize) -> (usize, usize) {
        let inner = self.inner.lock();
        let database = inner.databases[slot].as_ref();
        database
            .and_then(|database| database.turns.get(driver))
            .map_or((0, 0), |turns| (turns.taken, turns.waiting.len()))
    }

    /// Asks for a turn, which may be there at once.
    pub(crate) fn queue_for_turn(
        self: &Arc<Self>,
        slot: usize,
        driver: usize,
        tenant: TenantId,
    ) -> Result<oneshot::Receiver<Result<Turn, Error>>, Error> {
        let now = Instant::now();
        let mut inner = self.inner.lock();
        let asked = inner.next_turn();
        let Some(database) = inner.databases[slot].as_mut().filter(|database| !database.retired) else {
            return Err(Error::Readdressed);
        };
        database.note_use(tenant, now);
        let is_free = database.is_free(&self.config, driver, tenant, now);
        if !is_free {
            database.admit(&self.config, tenant)?;
        }
        database.heat.warm(now);
        let Some(turns) = database.turns.get_mut(driver) else {
            return Err(Error::Readdressed);
        };
        let (sender, receiver) = oneshot::channel();
        turns.waiting.push(tenant, Waiter { asked, sender });
        database.grant_turns(&self.config, now, u64::MAX);
        Ok(receiver)
    }

    fn turn_given_back(self: &Arc<Self>, slot: usize, driver: usize, tenant: TenantId) {
        let now = Instant::now();
        let mut inner = self.inner.lock();
        let Some(database) = &mut inner.databases[slot] else {
            return;
        };
        if let Some(turns) = database.turns.get_mut(driver) {
            turns.taken -= 1;
        }
        database.take_back(tenant);
        // In the order of asking over the lanes: whoever came first at a tenant's limit is served first.
        let before = database.first_in_own_lane(&self.config, now);
        database.grant_turns(&self.config, now, before);
        self.serve_own_lane(&mut inner, slot, now);
        if let Some(database) = &mut inner.databases[slot] {
            database.grant_turns(&self.config, now, u64::MAX);
        }
    }

    /// A tenant has less than before by way of another driver: who waited in the pool's own lane for just that is served.
    fn serve_own_lane(self: &Arc<Self>, inner: &mut Inner, slot: usize, now: Instant) {
        let Some(database) = &mut inner.databases[slot] else {
            return;
        };
        if database.first_in_own_lane(&self.config, now) == u64::MAX {
            return;
        }
        let Some(mut member) = database.idle.pop() else {
            return self.needs_still(inner, slot, now);
        };
        let pool = database.pool.upgrade();
        let serves = member.dies > now && !member.session.connection().is_closed();
        match pool {
            Some(pool) if serves => self.give(inner, &pool, member, now),
            _ => {
                self.close(inner, slot, member);
                self.needs_still(inner, slot, now);
            }
        }
    }
}

impl Database {
    /// Whether the tenant may have one of the driver's connections at once.
    fn is_free(&self, config: &PoolConfig, driver: usize, tenant: TenantId, now: Instant) -> bool {
        let has_one = self
            .turns
            .get(driver)
            .is_some_and(|turns| turns.taken < config.connections_max);
        has_one && self.room(config, tenant, now) > 0
    }

    /// When the first asked who waits in the pool's own lane and may be served; `u64::MAX` where there is none.
    pub(super) fn first_in_own_lane(&self, config: &PoolConfig, now: Instant) -> u64 {
        if self.waiting.len() == 0 {
            return u64::MAX;
        }
        let first = self.waiting.front_where(|tenant| self.room(config, tenant, now) > 0);
        first.map_or(u64::MAX, |waiter| waiter.asked)
    }

    /// Gives turns to those whose they are and who may have one, as far as they asked before.
    pub(super) fn grant_turns(&mut self, config: &PoolConfig, now: Instant, before: u64) {
        if self.turns.iter().all(|turns| turns.waiting.len() == 0) {
            return;
        }
        let Some(pool) = self.pool.upgrade() else { return };
        let each = self.limit_of_each(config, now);
        let Self {
            turns, lent, bounds, ..
        } = self;
        for (driver, turns) in turns.iter_mut().enumerate() {
            while turns.taken < config.connections_max {
                let has_room = |tenant: TenantId| {
                    let limit = bounds.get(&tenant).map_or(each, |(_, own)| each.min(*own));
                    lent.get(&tenant).is_none_or(|lent| *lent < limit)
                };
                let first = turns.waiting.front_where(has_room).map(|waiter| waiter.asked);
                if first.is_none_or(|asked| asked >= before) {
                    break;
                }
                let Some((tenant, waiter)) = turns.waiting.pop_where(has_room) else {
                    break;
                };
                let turn = Turn {
                    pool: Some(pool.clone()),
                    driver,
                    tenant,
                };
                match waiter.sender.send(Ok(turn)) {
                    Ok(()) => {
                        turns.taken += 1;
                        *lent.entry(tenant).or_insert(0) += 1;
                    }
                    // This one gave up: nothing was counted, and nothing is given back, which would need this lock.
                    Err(Ok(turn)) => turn.forget(),
                    Err(Err(_)) => {}
                }
            }
        }
    }
}
