//! What became of attempts at jobs in this process since it started and how long they took, for metrics: plain counters that only
//! grow.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

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

/// How long attempts at jobs took in this process so far, from when their handlers began to what became of them: the same attempts
/// that [`JobCounts`] counts.
///
/// # Examples
///
/// ```
/// use tenantry::jobs::{Durations, JobDurations};
///
/// let done = JobDurations::now().done;
/// for (bound, attempts) in Durations::BOUNDS.iter().zip(done.up_to) {
///     println!("{attempts} of {} took no longer than {} s", done.count, bound.as_secs_f64());
/// }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct JobDurations {
    /// The job was over.
    pub done: Durations,
    /// It failed, and is tried again or is dead.
    pub failed: Durations,
    /// It was given back, and the attempt does not count.
    pub given_back: Durations,
    /// It was another worker's by then.
    pub lost: Durations,
}

/// How long some attempts took, as a histogram.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Durations {
    /// How many took no longer than each of [`BOUNDS`](Self::BOUNDS), so that each counts those before it too.
    pub up_to: [u64; BUCKETS],
    /// How many there were.
    pub count: u64,
    /// How long they took, all together.
    pub sum: Duration,
}

const BUCKETS: usize = 14;

impl Durations {
    /// From a job of one statement to the ten minutes that an attempt has at most where nothing is said.
    pub const BOUNDS: [Duration; BUCKETS] = [
        Duration::from_millis(1),
        Duration::from_millis(5),
        Duration::from_millis(25),
        Duration::from_millis(100),
        Duration::from_millis(250),
        Duration::from_millis(500),
        Duration::from_secs(1),
        Duration::from_millis(2500),
        Duration::from_secs(5),
        Duration::from_secs(15),
        Duration::from_secs(30),
        Duration::from_secs(60),
        Duration::from_secs(300),
        Duration::from_secs(600),
    ];
}

/// The attempts of one outcome.
struct Series {
    /// By the first bound that they kept to; the last one for those that kept to none.
    by_bound: [AtomicU64; BUCKETS + 1],
    micros: AtomicU64,
}

static DONE: Series = Series::new();
static FAILED: Series = Series::new();
static GIVEN_BACK: Series = Series::new();
static LOST: Series = Series::new();

impl Series {
    const fn new() -> Self {
        Self {
            by_bound: [const { AtomicU64::new(0) }; BUCKETS + 1],
            micros: AtomicU64::new(0),
        }
    }

    fn note(&self, took: Duration) {
        let bound = Durations::BOUNDS.partition_point(|bound| *bound < took);
        self.by_bound[bound].fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }

    fn count(&self) -> u64 {
        self.by_bound.iter().map(|bound| bound.load(Ordering::Relaxed)).sum()
    }

    fn durations(&self) -> Durations {
        let mut durations = Durations {
            sum: Duration::from_micros(self.micros.load(Ordering::Relaxed)),
            ..Durations::default()
        };
        // Counted from what was read here and not anew: a histogram whose parts disagree is refused by some that read it.
        for (n, bound) in self.by_bound.iter().enumerate() {
            durations.count += bound.load(Ordering::Relaxed);
            if let Some(up_to) = durations.up_to.get_mut(n) {
                *up_to = durations.count;
            }
        }
        durations
    }
}

impl JobCounts {
    /// As they are now.
    pub fn now() -> Self {
        Self {
            done: DONE.count(),
            failed: FAILED.count(),
            given_back: GIVEN_BACK.count(),
            lost: LOST.count(),
        }
    }
}

impl JobDurations {
    /// As they are now.
    pub fn now() -> Self {
        Self {
            done: DONE.durations(),
            failed: FAILED.durations(),
            given_back: GIVEN_BACK.durations(),
            lost: LOST.durations(),
        }
    }
}

pub(super) fn note(ended: Ended, took: Duration) {
    let series = match ended {
        Ended::Done => &DONE,
        Ended::Failed => &FAILED,
        Ended::GivenBack => &GIVEN_BACK,
        Ended::Lost => &LOST,
    };
    series.note(took);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_counts_below_each_bound_that_it_kept_to() {
        let series = Series::new();
        for millis in [1, 2, 600_000, 600_001] {
            series.note(Duration::from_millis(millis));
        }
        let durations = series.durations();
        assert_eq!(durations.up_to[..2], [1, 2]);
        assert_eq!(durations.up_to[12..], [2, 3]);
        assert_eq!((durations.count, series.count()), (4, 4));
        assert_eq!(durations.sum, Duration::from_millis(1_200_004));
    }
}
