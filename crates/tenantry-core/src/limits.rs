//! What a plan gives at most, and how a rate is kept to.

use std::{
    collections::BTreeMap,
    num::{NonZeroU32, NonZeroU64},
};

use serde::{Deserialize, Serialize};

/// What each tenant of a plan may use at most. What is not said is not limited.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PlanLimits {
    /// Requests a second, in the long run and over all processes.
    pub requests_per_s: Option<NonZeroU32>,
    /// Requests that may come at once after a pause; as many as in a second where nothing is said.
    pub burst: Option<NonZeroU32>,
    /// Statements and transactions at a time, over all processes.
    pub concurrent: Option<NonZeroU32>,
    /// How long a statement may run, in milliseconds.
    pub statement_ms: Option<NonZeroU32>,
    /// Members, those who are invited included.
    pub members: Option<NonZeroU32>,
    /// Jobs: waiting, running, for later and dead.
    pub jobs: Option<NonZeroU32>,
    /// Bytes of its tables and indexes, as its server's statistics say it, and of its files.
    pub storage_bytes: Option<NonZeroU64>,
    /// Rows of these tables, as its server's statistics say it.
    pub rows: BTreeMap<String, u64>,
}

impl PlanLimits {
    /// How often requests may come.
    pub fn rate(&self) -> Option<Rate> {
        self.requests_per_s.map(|per_s| Rate {
            per_s,
            burst: self.burst.unwrap_or(per_s),
        })
    }

    /// The same, with the burst that holds where none is said.
    #[must_use]
    pub fn in_effect(self) -> Self {
        Self {
            burst: self.rate().map(|rate| rate.burst),
            ..self
        }
    }

    /// Whether what a tenant has must be measured to know whether it keeps to them.
    pub fn must_be_measured(&self) -> bool {
        self.storage_bytes.is_some() || self.jobs.is_some() || !self.rows.is_empty()
    }
}

/// As much of something as the plan gives, or more: nothing is added until that is mended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Excess {
    /// `storage_bytes`, `jobs`, or `rows.` and the table.
    pub limit: String,
    /// What the plan gives.
    pub quota: u64,
    /// What the tenant has.
    pub used: u64,
}

impl Excess {
    /// What [`limit`](Self::limit) says of jobs.
    pub const JOBS: &'static str = "jobs";
    /// What it says of bytes, those of files among them.
    pub const STORAGE: &'static str = "storage_bytes";

    /// Whether it keeps the tenant from having more rows. Jobs keep it from enqueueing only.
    pub fn refuses_rows(&self) -> bool {
        self.limit != Self::JOBS
    }
}

/// How much of something a tenant has, whether its plan limits that or not.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Measure {
    /// `members`, `jobs`, `storage_bytes`, `files_bytes` (which are part of those), or `rows.` and the table.
    pub name: String,
    /// What the tenant has; `None` where that is not known.
    pub used: Option<u64>,
    /// What its plan gives; `None` where it limits nothing.
    pub limit: Option<u64>,
}

/// How often something may happen.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Rate {
    /// In the long run.
    pub per_s: NonZeroU32,
    /// At once, after a pause.
    pub burst: NonZeroU32,
}

/// Nanoseconds in a second.
const SECOND: u64 = 1_000_000_000;

impl Rate {
    /// The part of one of so many processes: together they never give more than the whole. Each gives at least one at once, so that a
    /// burst smaller than the number of processes is exceeded by those.
    ///
    /// ```
    /// use tenantry_core::{Pace, Rate};
    ///
    /// let rate = Rate { per_s: 10_u32.try_into()?, burst: 30_u32.try_into()? };
    /// assert_eq!(rate.part_of(3), Pace { interval_ns: 300_000_000, burst: 10 });
    /// # Ok::<(), std::num::TryFromIntError>(())
    /// ```
    pub fn part_of(self, processes: u32) -> Pace {
        let processes = processes.max(1);
        Pace {
            interval_ns: (SECOND * u64::from(processes)).div_ceil(u64::from(self.per_s.get())),
            burst: (self.burst.get() / processes).max(1),
        }
    }
}

/// A rate as it is kept to: the generic cell rate algorithm, whose whole state is one time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pace {
    /// The time that each one costs.
    pub interval_ns: u64,
    /// How many may come at once.
    pub burst: u32,
}

/// What became of one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Decision {
    /// Whether it may happen.
    pub allowed: bool,
    /// How many more may happen now.
    pub remaining: u32,
    /// How long until one may happen; zero where one may now.
    pub retry_ns: u64,
    /// How long until as many may happen at once as ever.
    pub reset_ns: u64,
}

impl Pace {
    /// Decides about one at `now_ns`, for whom everything is paid at `paid_at_ns`; gives the new time at which it is.
    ///
    /// ```
    /// use tenantry_core::Pace;
    ///
    /// let pace = Pace { interval_ns: 10, burst: 2 };
    /// let (first, paid) = pace.decide(0, 100);
    /// let (second, paid) = pace.decide(paid, 100);
    /// let (third, paid) = pace.decide(paid, 100);
    /// assert_eq!((first.allowed, second.allowed, third.allowed), (true, true, false));
    /// assert_eq!((third.retry_ns, third.reset_ns), (10, 20));
    /// assert!(pace.decide(paid, 110).0.allowed);
    /// ```
    pub fn decide(self, paid_at_ns: u64, now_ns: u64) -> (Decision, u64) {
        let interval = self.interval_ns.max(1);
        let allowance = interval.saturating_mul(u64::from(self.burst.max(1)));
        // More than that is owed only where the rate was a smaller one before.
        let owed = paid_at_ns.saturating_sub(now_ns).min(allowance);
        let with_this = owed.saturating_add(interval);
        let allowed = with_this <= allowance;
        let owes = if allowed { with_this } else { owed };
        let decision = Decision {
            allowed,
            remaining: u32::try_from(allowance.saturating_sub(owes) / interval).unwrap_or(u32::MAX),
            retry_ns: owes.saturating_add(interval).saturating_sub(allowance),
            reset_ns: owes,
        };
        (decision, now_ns.saturating_add(owes))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A bucket of tokens, counted in exact fractions: the same rule in another form.
    struct Bucket {
        filled: u128,
        at: u64,
    }

    impl Bucket {
        fn take(&mut self, pace: Pace, now: u64) -> bool {
            let (interval, full) = (
                u128::from(pace.interval_ns),
                u128::from(pace.interval_ns) * u128::from(pace.burst),
            );
            self.filled = (self.filled + u128::from(now - self.at)).min(full);
            self.at = now;
            let has = self.filled >= interval;
            if has {
                self.filled -= interval;
            }
            has
        }
    }

    proptest! {
        #[test]
        fn it_decides_like_a_bucket_of_tokens(
            interval_ns in 1_u64..1000, burst in 1_u32..20, steps in prop::collection::vec(0_u64..3000, 1..200)
        ) {
            let pace = Pace { interval_ns, burst };
            let mut bucket = Bucket { filled: u128::from(interval_ns) * u128::from(burst), at: 0 };
            let (mut paid_at, mut now) = (0, 0);
            for step in steps {
                now += step;
                let (decision, paid) = pace.decide(paid_at, now);
                prop_assert_eq!(decision.allowed, bucket.take(pace, now));
                // What it says about later is so.
                if decision.retry_ns > 0 {
                    prop_assert!(!pace.decide(paid, now + decision.retry_ns - 1).0.allowed);
                }
                prop_assert!(pace.decide(paid, now + decision.retry_ns).0.allowed);
                let (again, _) = pace.decide(paid, now + decision.reset_ns);
                prop_assert_eq!(again.remaining, burst - 1);
                prop_assert_eq!(decision.remaining > 0, decision.retry_ns == 0);
                paid_at = paid;
            }
        }

        #[test]
        fn processes_together_give_no_more_than_the_rate(per_s in 1_u32..10_000, burst in 1_u32..10_000, processes in 1_u32..50) {
            let rate = Rate { per_s: per_s.try_into().unwrap(), burst: burst.try_into().unwrap() };
            let part = rate.part_of(processes);
            prop_assert!(u64::from(processes) * SECOND <= part.interval_ns * u64::from(per_s));
            prop_assert!(part.burst * processes <= burst.max(processes));
        }
    }
}
