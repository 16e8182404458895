//! A place among a server's connections, for one that is not of the pool's own lane.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

use crate::{database::DatabasePool, server::ServerPool};

/// Who else has connections to a tenant database. Lanes never share one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub(crate) enum Lane {
    /// SQL from outside the application's own code.
    Raw = 0,
    /// Other drivers.
    Foreign = 1,
}

impl Lane {
    pub(crate) const ALL: [Self; 2] = [Self::Raw, Self::Foreign];
}

/// The right to one connection. Dropping it makes the place free, so it is held until the server has ended its side.
pub(crate) struct Place {
    pool: Option<Arc<DatabasePool>>,
    lane: Lane,
    stage: Arc<Stage>,
}

/// How far the connection of a place is. Read and changed under the server's lock.
#[derive(Default)]
pub(crate) struct Stage(AtomicU8);

const OPEN: u8 = 0;
const CLOSING: u8 = 1;
const GONE: u8 = 2;

impl Stage {
    /// It is being closed; whether that is news.
    pub(crate) fn closes(&self) -> bool {
        self.0
            .compare_exchange(OPEN, CLOSING, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    }

    /// It goes; whether it was said before that it is being closed.
    pub(crate) fn goes(&self) -> bool {
        self.0.swap(GONE, Ordering::Relaxed) == CLOSING
    }
}

/// Tells that the connection of a place is being closed: who waits for one need not take another.
#[derive(Clone)]
pub(crate) struct Leaving {
    server: Arc<ServerPool>,
    slot: usize,
    lane: Lane,
    stage: Arc<Stage>,
}

impl Leaving {
    /// Its end has begun. Said again it means nothing.
    pub(crate) fn begins(&self) {
        self.server.place_closes(self.slot, self.lane, &self.stage);
    }

    /// The same of a connection that somebody was asked to give up.
    pub(crate) fn begins_as_asked(&self) {
        self.server.gave_up(self.slot, self.lane, Some(&self.stage));
    }
}

impl Place {
    pub(crate) fn new(pool: Arc<DatabasePool>, lane: Lane) -> Self {
        Self {
            pool: Some(pool),
            lane,
            stage: Arc::default(),
        }
    }

    /// Its connection is being closed.
    pub(crate) fn closes(&self) {
        if let Some(pool) = &self.pool {
            pool.server().place_closes(pool.slot(), self.lane, &self.stage);
        }
    }

    /// What tells that its connection is being closed; `None` where it reached nobody.
    pub(crate) fn leaving(&self) -> Option<Leaving> {
        let pool = self.pool.as_ref()?;
        Some(Leaving {
            server: pool.server().clone(),
            slot: pool.slot(),
            lane: self.lane,
            stage: self.stage.clone(),
        })
    }

    /// It reached nobody: the pool never counted it.
    pub(crate) fn forget(mut self) {
        self.pool = None;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.take() {
            pool.server().place_given_back(pool.slot(), self.lane, &self.stage);
        }
    }
}
