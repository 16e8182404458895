//! When a caller may have written for the last time: what it reads from a replica has to be as new.

use std::{
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::member::CANCEL_TIMEOUT;

/// What was given up halfway may take effect after it, until the server has heard that it shall stop and has ended its side.
const IN_DOUBT: Duration = CANCEL_TIMEOUT.saturating_mul(2);

/// Moments are kept as microseconds after this one.
static BEGINNING: LazyLock<Instant> = LazyLock::new(Instant::now);

/// When a caller, or one made beside it, may have written for the last time.
#[derive(Default)]
pub(crate) struct Written {
    /// Microseconds after [`BEGINNING`], counted from 1; 0 for never.
    at_us: AtomicU64,
}

impl Written {
    /// What may have been a write came to its end just now; or was given up, and its end is not known.
    pub(crate) fn note(&self, ended: bool) {
        let now = Instant::now();
        let at = if ended { now } else { now + IN_DOUBT };
        let after = at.saturating_duration_since(*BEGINNING).as_micros();
        let at_us = u64::try_from(after).unwrap_or(u64::MAX - 1) + 1;
        self.at_us.fetch_max(at_us, Ordering::AcqRel);
    }

    pub(crate) fn at(&self) -> Option<Instant> {
        let at_us = self.at_us.load(Ordering::Acquire);
        // Up to the microsecond that was cut off.
        (at_us > 0).then(|| *BEGINNING + Duration::from_micros(at_us))
    }
}

/// A piece of work outside of the pool's own connections that may be a write.
pub(crate) struct Writing {
    written: Option<Arc<Written>>,
    ended: bool,
}

impl Writing {
    pub(crate) fn new(written: Option<Arc<Written>>) -> Self {
        Self { written, ended: false }
    }

    /// It came to its end.
    pub(crate) fn ended(&mut self) {
        self.ended = true;
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        if let Some(written) = &self.written {
            written.note(self.ended);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_write_counts_and_a_doubt_counts_for_longer() {
        let written = Written::default();
        assert_eq!(written.at(), None);
        let before = Instant::now();
        written.note(true);
        let first = written.at().expect("noted");
        assert!(first >= before && first <= Instant::now() + Duration::from_micros(2));
        written.note(false);
        let doubt = written.at().expect("noted");
        assert!(doubt >= before + IN_DOUBT);
        written.note(true);
        assert_eq!(written.at(), Some(doubt));
    }
}
