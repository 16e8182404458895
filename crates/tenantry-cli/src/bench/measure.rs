//! How two ways of doing the same are compared.
//!
//! The machine is never quiet, so both ways take turns in short slices, and what counts is the ratio within a round: a
//! disturbance longer than a round touches both alike. The first of a round changes with each round.

use std::{
    future::Future,
    pin::Pin,
    time::{Duration, Instant},
};

use anyhow::Result;

use super::cpu::{Cpu, CpuMeter};

/// How long and how often.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// Rounds that count.
    pub(crate) rounds: u32,
    /// Rounds before them, in which caches, plans and connections are made.
    pub(crate) warm_up: u32,
    /// The length of each side's slice.
    pub(crate) slice: Duration,
}

impl Plan {
    pub(crate) const fn new(rounds: u32) -> Self {
        Self {
            rounds,
            warm_up: 4,
            slice: Duration::from_millis(90),
        }
    }
}

/// Somebody who does the same thing again and again.
pub(crate) trait Caller: Send + 'static {
    /// Does it once, and checks that it was done.
    fn call(&mut self) -> impl Future<Output = Result<()>> + Send;
}

/// Several callers at once.
pub(crate) struct Crowd<C> {
    callers: Vec<C>,
}

impl<C: Caller> Crowd<C> {
    pub(crate) const fn new(callers: Vec<C>) -> Self {
        Self { callers }
    }
}

/// One of two ways that are compared.
pub(crate) trait Side {
    /// Goes on for that long; gives calls per second.
    fn slice(&mut self, time: Duration) -> Pin<Box<dyn Future<Output = Result<Slice>> + '_>>;
}

/// What happened in a slice.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slice {
    calls: u64,
    elapsed: Duration,
}

impl Slice {
    fn rate(self) -> f64 {
        self.calls as f64 / self.elapsed.as_secs_f64()
    }

    /// A time that all calls together took, for one of them.
    pub(crate) fn per_call(self, time: Duration) -> Duration {
        time.div_f64(self.calls.max(1) as f64)
    }
}

impl<C: Caller> Side for Crowd<C> {
    fn slice(&mut self, time: Duration) -> Pin<Box<dyn Future<Output = Result<Slice>> + '_>> {
        Box::pin(async move {
            let begun = Instant::now();
            let until = begun + time;
            let tasks: Vec<_> = self
                .callers
                .drain(..)
                .map(|mut caller| {
                    tokio::spawn(async move {
                        let mut calls = 0_u64;
                        while Instant::now() < until {
                            caller.call().await?;
                            calls += 1;
                        }
                        anyhow::Ok((caller, calls))
                    })
                })
                .collect();
            let mut all = 0;
            for task in tasks {
                let (caller, calls) = task.await??;
                self.callers.push(caller);
                all += calls;
            }
            Ok(Slice {
                calls: all,
                elapsed: begun.elapsed(),
            })
        })
    }
}

/// A figure in its spread over the rounds.
#[derive(Clone, Copy, PartialEq, Debug, serde::Serialize)]
pub(crate) struct Spread {
    pub(crate) min: f64,
    pub(crate) median: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// Of values in any order; zero where there are none.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_unstable_by(f64::total_cmp);
        let at = |place: usize| values.get(place).copied().unwrap_or_default();
        let (middle, last) = (values.len() / 2, values.len().saturating_sub(1));
        let median = if values.len() % 2 == 1 {
            at(middle)
        } else {
            (at(middle.saturating_sub(1)) + at(middle)) / 2.0
        };
        Self {
            min: at(0),
            median,
            max: at(last),
        }
    }
}

/// What a comparison found.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub(crate) struct Comparison {
    /// Ours to the other's rate, round by round.
    pub(crate) ratio: Spread,
    /// Calls per second of the other way.
    pub(crate) other_rate: f64,
    /// Calls per second of ours.
    pub(crate) our_rate: f64,
    /// Processor time per call of the other way, where the system tells.
    pub(crate) other_cpu: Option<CpuPerCall>,
    /// Processor time per call of ours.
    pub(crate) our_cpu: Option<CpuPerCall>,
}

/// Processor time per call in microseconds.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub(crate) struct CpuPerCall {
    /// In PostgreSQL.
    pub(crate) server_us: f64,
    /// In this process.
    pub(crate) client_us: f64,
}

/// Lets both sides take turns.
///
/// # Errors
///
/// When a call of either side fails: a benchmark of failures would be fast.
pub(crate) async fn compare(
    meter: &CpuMeter,
    plan: Plan,
    other: &mut dyn Side,
    ours: &mut dyn Side,
) -> Result<Comparison> {
    let mut rounds = Vec::new();
    let (mut other_total, mut our_total) = (Total::default(), Total::default());
    for round in 0..plan.warm_up + plan.rounds {
        let (mut other_slice, mut our_slice) = (None, None);
        for turn in 0..2 {
            let before = meter.read();
            let is_ours = (round + turn) % 2 == 1;
            let side: &mut dyn Side = if is_ours { &mut *ours } else { &mut *other };
            let slice = side.slice(plan.slice).await?;
            let used = meter.read() - before;
            let total = if is_ours { &mut our_total } else { &mut other_total };
            if round >= plan.warm_up {
                total.add(slice, used);
            }
            *(if is_ours { &mut our_slice } else { &mut other_slice }) = Some(slice);
        }
        if round >= plan.warm_up
            && let (Some(other), Some(ours)) = (other_slice, our_slice)
        {
            rounds.push(ours.rate() / other.rate());
        }
    }
    Ok(Comparison {
        ratio: Spread::of(rounds),
        other_rate: other_total.rate(),
        our_rate: our_total.rate(),
        other_cpu: other_total.cpu(),
        our_cpu: our_total.cpu(),
    })
}

#[derive(Default)]
struct Total {
    calls: u64,
    elapsed: Duration,
    cpu: Cpu,
}

impl Total {
    fn add(&mut self, slice: Slice, used: Cpu) {
        self.calls += slice.calls;
        self.elapsed += slice.elapsed;
        self.cpu = self.cpu + used;
    }

    fn rate(&self) -> f64 {
        self.calls as f64 / self.elapsed.as_secs_f64()
    }

    fn cpu(&self) -> Option<CpuPerCall> {
        let per_call = |time: Duration| time.as_secs_f64() * 1e6 / self.calls.max(1) as f64;
        (!self.cpu.server.is_zero()).then(|| CpuPerCall {
            server_us: per_call(self.cpu.server),
            client_us: per_call(self.cpu.client),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_of_what_was_measured() {
        let spread = Spread::of([0.9, 0.5, 0.7]);
        assert_eq!((spread.min, spread.median, spread.max), (0.5, 0.7, 0.9));
        assert_eq!(Spread::of([1.0, 3.0]).median, 2.0);
        assert_eq!(Spread::of([]).median, 0.0);
    }

    #[tokio::test]
    async fn both_sides_take_turns_and_failures_end_the_comparison() {
        struct Sleeper(Duration);
        impl Caller for Sleeper {
            async fn call(&mut self) -> Result<()> {
                tokio::time::sleep(self.0).await;
                anyhow::ensure!(!self.0.is_zero(), "nothing was done");
                Ok(())
            }
        }
        let meter = CpuMeter::new(None);
        let plan = Plan {
            rounds: 2,
            warm_up: 0,
            slice: Duration::from_millis(40),
        };
        let side = |ms| Crowd::new(vec![Sleeper(Duration::from_millis(ms))]);
        let found = compare(&meter, plan, &mut side(2), &mut side(20)).await.unwrap();
        assert!(found.ratio.max < 0.6, "{found:?}");
        assert!(compare(&meter, plan, &mut side(2), &mut side(0)).await.is_err());
    }
}
