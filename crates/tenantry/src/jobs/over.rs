//! Whether a job is over: what the transactions of its handler tell the worker that keeps its lease.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

/// Whether a job is over. Cheap to clone.
#[derive(Clone, Default, Debug)]
pub(super) struct Over(Arc<State>);

#[derive(Default, Debug)]
struct State {
    /// A transaction that ends the job was committed.
    done: AtomicBool,
    /// How many are under way that would end it.
    ending: AtomicUsize,
}

impl Over {
    /// From here on the database may have committed the job's end, and we not know it yet, until what this gives is dropped.
    pub(super) fn ending(&self) -> Ending {
        self.0.ending.fetch_add(1, Ordering::AcqRel);
        Ending(self.clone())
    }

    /// It is known to be over.
    pub(super) fn is_done(&self) -> bool {
        self.0.done.load(Ordering::Acquire)
    }

    /// It may be over: where the database has no such job any more, that need not be another worker's doing.
    pub(super) fn may_be_done(&self) -> bool {
        // In this order: what ends says that it is done before it is no longer counted.
        self.0.ending.load(Ordering::Acquire) > 0 || self.is_done()
    }
}

/// A transaction is under way that ends the job.
#[must_use = "it says so as long as it lives"]
pub(super) struct Ending(Over);

impl Ending {
    /// It was committed.
    pub(super) fn committed(self) {
        self.0.0.done.store(true, Ordering::Release);
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.0.ending.fetch_sub(1, Ordering::AcqRel);
    }
}
