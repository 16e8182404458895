//! How fast connections to a database are opened for those who wait.
//!
//! Opening one costs the server some 8 ms of processor time, in which one that is there serves a hundred short calls: fifty callers that come at once
//! to a database without any are served sooner by two connections than by sixteen that take the processors from each other. So the first is
//! opened alone, and more only where the queue has not become shorter by much in the time that an opening takes: then calls are long, or many, and
//! each time twice as many are opened.

use std::time::{Duration, Instant};

use crate::{PoolConfig, server::Database};

/// Connections to one database that are opened at the same time.
pub(crate) const OPENING_MAX: usize = 4;
/// An opening that takes longer is not waited for: its server may never answer.
const SLOW: Duration = Duration::from_millis(200);
/// However long openings take, to a server that is far away: who waits there waits long enough for each.
const PACE_MAX: Duration = Duration::from_millis(50);

/// How far it is.
#[derive(Default, Debug)]
pub(crate) struct Ramp {
    /// When who waits was counted.
    looked_at: Option<Instant>,
    /// How many there were.
    waiting: usize,
    /// How many are opened at the same time.
    step: usize,
    /// How many of those are still to be begun.
    left: usize,
    /// When it is asked again without anything happening.
    pub(crate) alarm: Option<Instant>,
}

/// What a database has.
#[derive(Clone, Copy, Debug)]
struct Has {
    /// Connections that serve.
    serving: usize,
    /// Connections that are being opened.
    opening: usize,
}

/// Whether one more is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Opens {
    Now,
    /// Not before it is asked again.
    At(Instant),
}

impl Ramp {
    /// How long those that are there have until they are judged, where an opening takes so long.
    pub(crate) fn pace(opening_takes: Duration, shortest: Duration) -> Duration {
        opening_takes.max(shortest).min(PACE_MAX)
    }

    /// Asked when somebody waits for whom a connection could be opened. `waiting` counts them.
    fn ask(&mut self, now: Instant, pace: Duration, has: Has, waiting: impl FnOnce() -> usize) -> Opens {
        let looked_at = match self.looked_at {
            Some(looked_at) if has.serving + has.opening > 0 => looked_at,
            _ => return self.begin(now, waiting()),
        };
        // Until those that are being opened have come, nothing is known.
        let wait = if has.opening > 0 { SLOW } else { pace };
        let since = now.saturating_duration_since(looked_at);
        if since > 2 * wait {
            // Nobody has asked for so long: a new crowd.
            return self.begin(now, waiting());
        }
        if self.left > 0 {
            self.left -= 1;
            return Opens::Now;
        }
        if since < wait {
            return Opens::At(looked_at + wait);
        }
        let (before, waiting) = (self.waiting, waiting());
        self.look(now, waiting);
        if has.serving == 0 {
            self.step = 1;
            return Opens::Now;
        }
        let shorter_by = before.saturating_sub(waiting);
        if shorter_by == 0 {
            self.step = (2 * self.step).clamp(1, OPENING_MAX);
            self.left = self.step - 1;
            return Opens::Now;
        }
        self.step = 1;
        // What those that are there have served by the time that another one has come is not worth it.
        match waiting > 2 * shorter_by {
            true => Opens::Now,
            false => Opens::At(now + pace),
        }
    }

    /// One has come, and serves from now on: so many still wait.
    pub(crate) fn came(&mut self, now: Instant, waiting: usize) {
        self.look(now, waiting);
    }

    fn begin(&mut self, now: Instant, waiting: usize) -> Opens {
        self.look(now, waiting);
        (self.step, self.left) = (1, 0);
        Opens::Now
    }

    fn look(&mut self, now: Instant, waiting: usize) {
        self.looked_at = Some(now);
        self.waiting = waiting;
    }
}

impl Database {
    /// Whether one more connection is opened now.
    pub(crate) fn opens(&mut self, config: &PoolConfig, now: Instant, pace: Duration) -> Opens {
        let opening = self.opening;
        let has = Has {
            serving: self.established().saturating_sub(opening),
            opening,
        };
        // Apart, so that the others can be looked at meanwhile.
        let mut ramp = std::mem::take(&mut self.ramp);
        let opens = ramp.ask(now, pace, has, || self.waiting_for_connections(config, now));
        self.ramp = ramp;
        opens
    }

    /// How many wait in the pool's own lane whose tenants may have more.
    pub(crate) fn waiting_for_connections(&self, config: &PoolConfig, now: Instant) -> usize {
        self.waiting
            .count_where(usize::MAX, |tenant| match self.room(config, tenant, now) {
                0 => 0,
                _ => usize::MAX,
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Duration = Duration::from_millis(10);

    /// A database, its queue, and a clock.
    struct Crowd {
        ramp: Ramp,
        begun: Instant,
        ms: u64,
        serving: usize,
        opening: usize,
        waiting: usize,
    }

    impl Crowd {
        fn of(waiting: usize) -> Self {
            Self {
                ramp: Ramp::default(),
                begun: Instant::now(),
                ms: 0,
                serving: 0,
                opening: 0,
                waiting,
            }
        }

        fn now(&self) -> Instant {
            self.begun + Duration::from_millis(self.ms)
        }

        /// Opens as many as may be; tells how many.
        fn opens(&mut self) -> usize {
            let before = self.opening;
            while self.opening < OPENING_MAX {
                let (now, waiting) = (self.now(), self.waiting);
                let has = Has {
                    serving: self.serving,
                    opening: self.opening,
                };
                match self.ramp.ask(now, PACE, has, || waiting) {
                    Opens::Now => self.opening += 1,
                    Opens::At(then) => {
                        assert!(then > now);
                        break;
                    }
                }
            }
            self.opening - before
        }

        /// All that are being opened come.
        fn come(&mut self) {
            self.serving += std::mem::take(&mut self.opening);
            self.ramp.came(self.now(), self.waiting);
        }
    }

    #[test]
    fn a_crowd_that_one_connection_serves_gets_one() {
        let mut crowd = Crowd::of(50);
        assert_eq!(crowd.opens(), 1);
        crowd.ms += 30;
        assert_eq!(crowd.opens(), 0, "the one is waited for");
        crowd.come();
        assert_eq!(crowd.opens(), 0, "it has served nobody yet");
        for waiting in [28, 6] {
            (crowd.ms, crowd.waiting) = (crowd.ms + 10, waiting);
            assert_eq!(crowd.opens(), 0);
        }
    }

    #[test]
    fn a_crowd_of_long_calls_gets_twice_as_many_each_time() {
        let mut crowd = Crowd::of(50);
        let mut opened = Vec::new();
        for _ in 0..5 {
            opened.push(crowd.opens());
            crowd.ms += 8;
            crowd.come();
            crowd.ms += 10;
        }
        assert_eq!(opened, [1, 2, 4, 4, 4]);
    }

    #[test]
    fn a_queue_that_would_be_long_for_long_gets_another_one() {
        let mut crowd = Crowd::of(50);
        crowd.opens();
        crowd.come();
        (crowd.ms, crowd.waiting) = (10, 45);
        assert_eq!(crowd.opens(), 1);
    }

    #[test]
    fn a_queue_that_stays_as_it_is_gets_more() {
        let mut crowd = Crowd::of(3);
        crowd.opens();
        crowd.come();
        crowd.ms = 10;
        assert_eq!(crowd.opens(), 2);
    }

    #[test]
    fn an_opening_that_gets_no_answer_is_not_waited_for() {
        let mut crowd = Crowd::of(50);
        let mut opened = Vec::new();
        for _ in 0..5 {
            opened.push(crowd.opens());
            crowd.ms += 200;
        }
        assert_eq!(opened, [1, 1, 1, 1, 0]);
    }

    #[test]
    fn a_caller_that_comes_by_itself_waits_for_nothing() {
        let mut crowd = Crowd::of(1);
        for _ in 0..3 {
            assert_eq!(crowd.opens().min(1), 1);
            crowd.come();
            crowd.ms += 1000;
        }
        crowd.serving = 0;
        assert_eq!(crowd.opens(), 1, "nor where all are gone again");
    }

    #[test]
    fn a_pace_has_a_bound_whatever_openings_take() {
        assert_eq!(Ramp::pace(Duration::ZERO, PACE), PACE);
        assert_eq!(Ramp::pace(Duration::from_millis(20), PACE), Duration::from_millis(20));
        assert_eq!(Ramp::pace(Duration::from_secs(3), PACE), PACE_MAX);
        assert_eq!(Ramp::pace(Duration::ZERO, Duration::from_secs(1)), PACE_MAX);
    }
}
