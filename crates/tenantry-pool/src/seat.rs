//! What the pool keeps of each connection while somebody else uses it: enough to end it from outside.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tenantry_wire::Leash;
use tokio::{runtime::Handle, sync::Notify};

/// How long a server may take to hear that a statement shall stop, before its socket is closed all the same: others may count on that.
const CUT_TIMEOUT: Duration = Duration::from_millis(500);

/// A connection as seen from outside.
pub(crate) struct Seat {
    way: Way,
    made: Instant,
    /// When whoever holds the connection has to give it back, in milliseconds after `made`; 0 for never.
    due_ms: AtomicU64,
}

impl Seat {
    pub(crate) fn new(leash: Leash) -> Arc<Self> {
        Self::ended_by(Way::Own(leash))
    }

    /// The seat of another driver's connection.
    pub(crate) fn of_relay(sever: Sever) -> Arc<Self> {
        Self::ended_by(Way::Foreign(sever))
    }

    fn ended_by(way: Way) -> Arc<Self> {
        Arc::new(Self {
            way,
            made: Instant::now(),
            due_ms: AtomicU64::new(0),
        })
    }

    /// Has to be given back by then.
    pub(crate) fn lend_for(&self, limit: Duration) {
        let due = (self.made.elapsed() + limit).as_millis().max(1);
        self.due_ms
            .store(u64::try_from(due).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Was given back.
    pub(crate) fn given_back(&self) {
        // Read before written: few are lent for a limited time.
        if self.due_ms.load(Ordering::Relaxed) != 0 {
            self.due_ms.store(0, Ordering::Relaxed);
        }
    }

    pub(crate) fn is_due(&self, now: Instant) -> bool {
        let due = self.due_ms.load(Ordering::Relaxed);
        due != 0 && now.saturating_duration_since(self.made).as_millis() >= u128::from(due)
    }

    /// Stops what runs on the connection and closes it, whoever uses it.
    pub(crate) fn cut(self: Arc<Self>) {
        if let Way::Foreign(sever) = &self.way {
            return sever.now();
        }
        match Handle::try_current() {
            Ok(runtime) => {
                runtime.spawn(self.cut_in_time());
            }
            Err(_) => self.cut_now(),
        }
    }

    async fn cut_in_time(self: Arc<Self>) {
        if let Way::Own(leash) = &self.way
            && tokio::time::timeout(CUT_TIMEOUT, leash.cut()).await.is_err()
        {
            leash.cut_now();
        }
    }

    fn cut_now(&self) {
        if let Way::Own(leash) = &self.way {
            leash.cut_now();
        }
    }
}

/// How a connection is ended from outside.
enum Way {
    /// One of our own client: its socket is closed under whoever uses it.
    Own(Leash),
    /// One of another driver: what stands between the driver and its server lets go of both.
    Foreign(Sever),
}

/// Tells a relay between another driver and its server to end.
#[derive(Clone, Default)]
pub(crate) struct Sever(Arc<Notify>);

impl Sever {
    /// Ends it, now or as soon as it has begun.
    pub(crate) fn now(&self) {
        self.0.notify_one();
    }

    /// Waits until it is to end.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when dropped: what was told is kept.
    pub(crate) async fn told(&self) {
        self.0.notified().await;
    }
}
