//! A place among a server's connections, for one that is not of the pool's own lane.

use std::sync::Arc;

use crate::database::DatabasePool;

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
}

impl Place {
    pub(crate) fn new(pool: Arc<DatabasePool>, lane: Lane) -> Self {
        Self { pool: Some(pool), lane }
    }

    /// It reached nobody: the pool never counted it.
    pub(crate) fn forget(mut self) {
        self.pool = None;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.take() {
            pool.server().place_given_back(pool.slot(), self.lane);
        }
    }
}
