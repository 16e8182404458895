//! What became of attempts at jobs in this process since it started, for metrics: plain counters that only grow.

use std::sync::atomic::{AtomicU64, Ordering};

use super::attempt::Ended;

/// What became of attempts at jobs in this process so far, whichever worker made them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct JobCounts {
    /// The job was over.
    pub done: u64,
    /// It failed, and is tried again or is dead.
    pub failed: u64,
    /// It was given back, and the attempt does not count.
    pub given_back: u64,
    /// It was another worker's by then.
    pub lost: u64,
}

static DONE: AtomicU64 = AtomicU64::new(0);
static FAILED: AtomicU64 = AtomicU64::new(0);
static GIVEN_BACK: AtomicU64 = AtomicU64::new(0);
static LOST: AtomicU64 = AtomicU64::new(0);

impl JobCounts {
    /// As they are now.
    pub fn now() -> Self {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Self {
            done: read(&DONE),
            failed: read(&FAILED),
            given_back: read(&GIVEN_BACK),
            lost: read(&LOST),
        }
    }
}

pub(super) fn note(ended: Ended) {
    let counter = match ended {
        Ended::Done => &DONE,
        Ended::Failed => &FAILED,
        Ended::GivenBack => &GIVEN_BACK,
        Ended::Lost => &LOST,
    };
    counter.fetch_add(1, Ordering::Relaxed);
}
