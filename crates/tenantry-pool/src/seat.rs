//! What the pool keeps of each connection while somebody else uses it: enough to end it from outside.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tenantry_wire::Leash;
use tokio::runtime::Handle;

/// How long a server may take to hear that a statement shall stop, before its socket is closed all the same: others may count on that.
const CUT_TIMEOUT: Duration = Duration::from_millis(500);

/// A connection as seen from outside.
pub(crate) struct Seat {
    leash: Leash,
    made: Instant,
    /// When whoever holds the connection has to give it back, in milliseconds after `made`; 0 for never.
    due_ms: AtomicU64,
}

impl Seat {
    pub(crate) fn new(leash: Leash) -> Arc<Self> {
        Arc::new(Self {
            leash,
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
        match Handle::try_current() {
            Ok(runtime) => {
                runtime.spawn(async move {
                    if tokio::time::timeout(CUT_TIMEOUT, self.leash.cut()).await.is_err() {
                        self.leash.cut_now();
                    }
                });
            }
            Err(_) => self.leash.cut_now(),
        }
    }
}
