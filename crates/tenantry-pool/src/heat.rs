//! How much a database was in use lately: what decides whose connection is given up.

use std::time::Instant;

/// A use counts half after this long.
const HALF_LIFE_S: f32 = 1.0;
/// In use so seldom that opening a connection for the next call costs little.
const COLD: f32 = 1.0;

/// Uses, each counting less the longer ago it was. Of two databases that are used equally often, the one used less recently is
/// colder; and one that was used once just now is colder than one that is used all the time, though its last use is the more
/// recent one: by the last use alone, each stray call would cost a busy database its connection, and that one the next.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Heat {
    value: f32,
    at: Option<Instant>,
}

impl Heat {
    pub(crate) fn warm(&mut self, now: Instant) {
        self.value = self.at(now) + 1.0;
        self.at = Some(now);
    }

    /// The heat at a later moment.
    pub(crate) fn at(&self, now: Instant) -> f32 {
        let Some(at) = self.at else { return 0.0 };
        self.value * (-now.saturating_duration_since(at).as_secs_f32() / HALF_LIFE_S).exp2()
    }

    /// Whether giving up a connection of the one for the other, at this moment, is a gain in any case.
    pub(crate) fn gives_way(victim: f32, to: f32) -> bool {
        victim < COLD || victim * 2.0 <= to
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_stray_use_does_not_outweigh_a_steady_one() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let (mut steady, mut stray) = (Heat::default(), Heat::default());
        for ms in (0..1000).step_by(20) {
            steady.warm(at(ms));
        }
        stray.warm(at(1000));
        assert!(stray.at(at(1001)) < steady.at(at(1001)));
        assert!(Heat::gives_way(stray.at(at(1001)), steady.at(at(1001))));
        assert!(!Heat::gives_way(steady.at(at(1001)), stray.at(at(1001))));
        // What was busy a while ago is not any more.
        assert!(steady.at(at(10_000)) < COLD);
        assert!(Heat::default().at(start) < COLD);
    }
}
