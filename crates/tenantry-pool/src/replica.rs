//! A replica of a server: what is known of how far it is.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tenantry_core::{ServerId, seal::Place};

use crate::{Home, database::DatabasePool};

/// What a read from a replica has to show.
#[derive(Clone, Debug)]
pub struct Freshness {
    /// Everything that was committed so long before the call; `Duration::MAX` for however old it is.
    pub staleness_max: Duration,
    /// Everything that was committed before [`Pools::bookmark`](crate::Pools::bookmark) gave this.
    pub after: Option<[u8; tenantry_core::seal::POSITION_LEN]>,
}

/// How a replica stands, as this process knows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReplicaStatus {
    /// The replica.
    pub id: ServerId,
    /// Whether it is asked how far it is, because somebody reads.
    pub asked: bool,
    /// How old what it shows is at most; `None` where it gives no answer, or none was asked for.
    pub lag: Option<Duration>,
    /// Whether a read that says nothing of its age may go there now; `None` where it is not asked.
    pub read_from: Option<bool>,
}

/// How far a replica is: it only gets further, as long as the server there is the same.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reached {
    /// Everything that was committed before this moment is there.
    pub(crate) fresh_at: Instant,
    /// Up to here the primary's log is replayed.
    pub(crate) position: u64,
    /// Which start of which server this was found out of.
    pub(crate) place: Place,
}

/// What this process knows of one replica.
pub(crate) struct Standby {
    pub(crate) id: ServerId,
    reached: Mutex<Option<Reached>>,
}

impl Standby {
    pub(crate) fn new(id: ServerId) -> Arc<Self> {
        Arc::new(Self {
            id,
            reached: Mutex::new(None),
        })
    }

    pub(crate) fn reached(&self) -> Option<Reached> {
        *self.reached.lock()
    }

    /// It was asked; `None` where it gave no answer that counts.
    pub(crate) fn note(&self, reached: Option<Reached>) {
        *self.reached.lock() = reached;
    }

    pub(crate) fn status(&self, asked: bool, staleness_max: Duration) -> ReplicaStatus {
        let reached = self.reached().filter(|_| asked);
        let lag = reached.map(|reached| reached.fresh_at.elapsed());
        ReplicaStatus {
            id: self.id,
            asked,
            lag,
            read_from: asked.then(|| lag.is_some_and(|lag| lag <= staleness_max)),
        }
    }
}

/// A tenant database on a replica.
pub(crate) struct Branch {
    pub(crate) pool: Arc<DatabasePool>,
    pub(crate) standby: Arc<Standby>,
}

/// The tenant database on all replicas of its server.
#[derive(Default)]
pub(crate) struct Branches {
    pub(crate) all: Vec<Branch>,
    /// Which list of replicas this is.
    pub(crate) list: u64,
    turn: AtomicUsize,
}

impl Branches {
    pub(crate) fn new(list: u64, all: Vec<Branch>) -> Self {
        Self {
            all,
            list,
            turn: AtomicUsize::new(0),
        }
    }

    /// One that shows what is asked for, by turns among those that do. Nothing is asked: what is not known to be there is not.
    pub(crate) fn choose(
        &self,
        home: &Home,
        written_at: Option<Instant>,
        freshness: &Freshness,
        now: Instant,
    ) -> Option<(&Branch, Place)> {
        let position = match &freshness.after {
            // Another key's, or of another database: nobody knows what it is behind.
            Some(sealed) => home.key.open_position(sealed)?,
            None => 0,
        };
        // None where the clock has not run for so long: then any age will do.
        let since = now.checked_sub(freshness.staleness_max);
        let fits = |reached: &Reached| {
            since.is_none_or(|since| reached.fresh_at >= since)
                && written_at.is_none_or(|at| reached.fresh_at >= at)
                && reached.position >= position
        };
        let count = self.all.len();
        let first = match count {
            0 => return None,
            1 => 0,
            _ => self.turn.fetch_add(1, Ordering::Relaxed),
        };
        (0..count).find_map(|n| {
            let branch = &self.all[(first.wrapping_add(n)) % count];
            let reached = branch.standby.reached().filter(fits)?;
            Some((branch, reached.place))
        })
    }
}
