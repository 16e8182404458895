//! Calls that arrive when they do, whether or not the ones before have ended; their time counts from then.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use tokio::task::{JoinHandle, JoinSet};

/// How a call ended.
pub(super) enum Answer {
    /// It was served, after so many refusals that allow to begin again.
    Served { begun_again: u32 },
    /// It was not.
    Failed(String),
}

/// A call that has ended.
pub(super) struct Call {
    pub(super) number: u64,
    pub(super) due: Instant,
    pub(super) took: Duration,
    pub(super) answer: Answer,
}

impl Call {
    /// Whether it was under way at some time between the two.
    pub(super) fn is_within(&self, begun: Instant, ended: Instant) -> bool {
        self.due <= ended && self.due + self.took >= begun
    }
}

/// Calls that are made until somebody has had enough.
pub(super) struct Calls {
    is_over: Arc<AtomicBool>,
    made: JoinHandle<Result<Vec<Call>>>,
}

impl Calls {
    /// So many a second, each told its number.
    pub(super) fn start<F>(rate: f64, call: impl Fn(u64) -> F + Send + 'static) -> Self
    where
        F: Future<Output = Answer> + Send + 'static,
    {
        let is_over = Arc::new(AtomicBool::new(false));
        let made = tokio::spawn(make(rate, is_over.clone(), call));
        Self { is_over, made }
    }

    /// All of them, once the last one is answered.
    pub(super) async fn stop(self) -> Result<Vec<Call>> {
        self.is_over.store(true, Ordering::Relaxed);
        self.made.await?
    }
}

async fn make<F>(rate: f64, is_over: Arc<AtomicBool>, call: impl Fn(u64) -> F) -> Result<Vec<Call>>
where
    F: Future<Output = Answer> + Send + 'static,
{
    let (mut open, mut ended) = (JoinSet::new(), Vec::new());
    let begun = Instant::now();
    for number in 0.. {
        let due = begun + Duration::from_secs_f64(number as f64 / rate);
        tokio::time::sleep(due.saturating_duration_since(Instant::now())).await;
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        let call = call(number);
        open.spawn(async move {
            let answer = call.await;
            Call {
                number,
                due,
                took: due.elapsed(),
                answer,
            }
        });
        while let Some(one) = open.try_join_next() {
            ended.push(one?);
        }
    }
    while let Some(one) = open.join_next().await {
        ended.push(one?);
    }
    Ok(ended)
}

/// What all but so large a part of them took at most, in milliseconds.
pub(super) fn percentile_ms(took: impl IntoIterator<Item = Duration>, percentile: f64) -> Result<f64> {
    let mut took: Vec<_> = took.into_iter().collect();
    took.sort_unstable();
    let place = (took.len() as f64 * percentile).ceil() as usize;
    let found = took.get(place.saturating_sub(1)).context("nothing was called")?;
    Ok(found.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_one_of_what_was_measured() {
        let took = |times: u64| (1..=times).map(Duration::from_millis);
        assert_eq!(percentile_ms(took(100), 0.99).unwrap(), 99.0);
        assert_eq!(percentile_ms(took(30), 0.99).unwrap(), 30.0, "of few, the largest");
        assert_eq!(percentile_ms(took(1), 0.99).unwrap(), 1.0);
        assert!(percentile_ms(took(0), 0.99).is_err());
    }

    #[tokio::test]
    async fn a_call_that_waits_keeps_no_other_back_and_counts_from_when_it_was_due() {
        let calls = Calls::start(100.0, |number| async move {
            if number == 0 {
                tokio::time::sleep(Duration::from_millis(150)).await;
            }
            Answer::Served { begun_again: 0 }
        });
        tokio::time::sleep(Duration::from_millis(100)).await;
        let mut calls = calls.stop().await.unwrap();
        assert!(calls.len() > 2, "{}", calls.len());
        calls.sort_by_key(|call| call.number);
        assert!(calls[0].took >= Duration::from_millis(150));
        let first = calls[0].due;
        assert!(calls[0].is_within(first + Duration::from_millis(120), first + Duration::from_secs(1)));
    }
}
