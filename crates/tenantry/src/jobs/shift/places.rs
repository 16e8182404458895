//! How many jobs a worker may have: those that it works on, and some ahead where they are short.

use std::time::Duration;

/// Jobs that take no longer, as a rule, are asked for ahead: while one batch is worked on, the next is on its way.
const SHORT: Duration = Duration::from_millis(10);
/// No larger batch than this is asked for ahead.
const BATCH_MAX: usize = 64;

/// How many jobs a worker may have.
#[derive(Clone, Copy)]
pub(super) struct Places {
    /// How many run at a time.
    hands: usize,
    /// How many are worth a claim of their own while all hands are busy. None where jobs take their time, and would wait here while
    /// another worker has a hand free.
    batch: usize,
    /// Those that run, wait here, or are asked for.
    taken: usize,
}

impl Places {
    pub(super) fn new(hands: usize, usual: Option<Duration>, taken: usize) -> Self {
        let batch = match usual {
            Some(usual) if usual < SHORT => (hands / 2).min(BATCH_MAX),
            _ => 0,
        };
        Self { hands, batch, taken }
    }

    /// For how many more there is room. Two batches beyond the hands: one waits here while the next is on its way, which takes as long as
    /// a commit; with one, hands were idle until it came. Together they are no more than the hands: who comes new waits no longer for
    /// them than for one job. Not both by one claim: the second is asked for in time.
    pub(super) fn room(self) -> usize {
        let room = (self.hands + 2 * self.batch).saturating_sub(self.taken);
        room.min(self.hands + self.batch)
    }

    /// Whether there is room for as many as are worth asking for.
    pub(super) fn are_worth_asking(self) -> bool {
        self.room() >= self.batch.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: Option<Duration> = Some(Duration::from_millis(1));

    #[test]
    fn the_next_short_jobs_are_asked_for_while_a_batch_waits() {
        // Sixteen run and eight wait.
        let busy = Places::new(16, QUICK, 24);
        assert!(busy.are_worth_asking());
        assert_eq!(busy.room(), 8);
        // Not for less than a batch, nor beyond the second one.
        assert!(!Places::new(16, QUICK, 25).are_worth_asking());
        assert_eq!(Places::new(16, QUICK, 32).room(), 0);
        assert_eq!(Places::new(16, QUICK, 0).room(), 24);
    }

    #[test]
    fn jobs_that_take_their_time_are_not_asked_for_ahead() {
        for usual in [None, Some(SHORT)] {
            assert!(!Places::new(16, usual, 16).are_worth_asking());
            assert_eq!(Places::new(16, usual, 15).room(), 1);
        }
        // Nor by who does one at a time.
        assert!(!Places::new(1, QUICK, 1).are_worth_asking());
        assert_eq!(Places::new(1, QUICK, 0).room(), 1);
    }
}
