//! The connections of other lanes than the pool's own: they are opened and kept elsewhere, and have their places here.

use std::{
    sync::{Arc, Weak},
    time::Instant,
};

use tenantry_core::TenantId;
use tokio::sync::oneshot;

use super::{Inner, ServerPool};
use crate::{
    Error,
    place::{Lane, Place, Stage},
    queue::{FairQueue, Waiter},
};

/// Those who wait for a place, not for a connection, and what they have.
#[derive(Default)]
pub(crate) struct LaneState {
    pub(crate) waiting: FairQueue<Result<Place, Error>>,
    pub(crate) open: usize,
    /// Of those, connections that are being closed, or that somebody was asked to close.
    pub(crate) closing: usize,
    /// Of those, connections that nobody uses, and what closes one of them: for each driver.
    pub(crate) idle: Vec<(usize, Weak<dyn Reclaim>)>,
}

impl LaneState {
    /// How many lie idle. Those of a driver that is gone close by themselves, and nobody could be asked to close one.
    pub(crate) fn idle(&self) -> usize {
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
}

impl Inner {
    /// One more connection of a lane is being closed, or is asked for.
    pub(crate) fn lane_closes_more(&mut self, slot: usize, lane: Lane) {
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
}
