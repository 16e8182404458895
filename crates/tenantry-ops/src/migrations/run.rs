//! One run of a roll-out: what it has from the runs before it, how far it is, when its next wave begins, and why it ends.

use chrono::{DateTime, TimeDelta, Utc};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::Value;
use tenantry_engine::isolate::Derived;
use tokio::sync::watch;

use super::{MigrationReport, Rollout, RolloutProgress, overlay::Overlays, workers::Outcome};

/// What an operation keeps of its roll-out for the run that goes on with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Kept {
    /// Which version it brings.
    version: i64,
    /// How many schemas lacked that when it began.
    total: usize,
    /// Before then the next wave does not begin.
    next_wave_at: Option<DateTime<Utc>>,
}

impl From<&Went> for Kept {
    fn from(went: &Went) -> Self {
        Self {
            version: went.report.target,
            total: went.total,
            next_wave_at: went.next_wave_at,
        }
    }
}

impl Kept {
    /// As the operation's progress tells it; nothing where no run has come so far.
    pub(crate) fn of(progress: &Value) -> Self {
        Self::deserialize(progress).unwrap_or_default()
    }

    /// How many schemas the roll-out is for, where so many of them are not migrated. With other files it is one anew.
    pub(super) fn total(&self, version: i64, found: usize) -> usize {
        match self.version == version {
            true => self.total.max(found),
            false => found,
        }
    }
}

/// The runs of the same roll-out before this one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Before {
    /// Since when there may have been one: what failed since then has failed in this roll-out.
    pub(crate) since: DateTime<Utc>,
    /// What they have left.
    pub(crate) kept: Kept,
}

impl Before {
    pub(super) fn next_wave_at(&self) -> Option<DateTime<Utc>> {
        self.kept.next_wave_at
    }
}

/// Why a run has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub(crate) enum Ended {
    /// Every schema was tried.
    Through,
    /// More failed than may.
    Spent,
    /// It was to stop.
    Stopped,
}

/// What a run has done.
pub(crate) struct Went {
    pub(crate) ended: Ended,
    /// With what the runs before it have failed at, and without what they have migrated.
    pub(crate) report: MigrationReport,
    /// How many schemas the runs before it have migrated.
    pub(crate) applied_before: usize,
    /// How many schemas the roll-out is for.
    pub(crate) total: usize,
    /// When the next wave would have begun, where it was stopped before one.
    pub(crate) next_wave_at: Option<DateTime<Utc>>,
}

/// A roll-out while it runs.
pub(super) struct Run<'a> {
    pub(super) derived: &'a Derived,
    pub(super) rollout: &'a Rollout,
    pub(super) progress: &'a (dyn Fn(RolloutProgress) + Sync),
    /// Whether it is to begin no other schema.
    pub(super) stop: watch::Receiver<bool>,
    /// How many schemas the runs before it have migrated.
    pub(super) applied_before: usize,
    pub(super) report: Mutex<MigrationReport>,
    /// Before then the next wave does not begin.
    pub(super) next_wave_at: Mutex<Option<DateTime<Utc>>>,
}

impl Run<'_> {
    /// Notes what became of a schema, and tells; whether to go on.
    pub(super) fn add(&self, outcome: Outcome, overlays: &Overlays, wave: &str, total: usize) -> bool {
        let mut report = self.report.lock();
        report.add(outcome, self.derived, overlays);
        // Under the lock: else it would be told out of order.
        (self.progress)(self.at(&report, wave, total));
        !self.rollout.budget.is_spent(report.failed.len(), total)
    }

    /// Tells that a wave begins.
    pub(super) fn begin(&self, wave: &str, total: usize) {
        *self.next_wave_at.lock() = None;
        (self.progress)(self.at(&self.report.lock(), wave, total));
    }

    /// Why it is to end before every schema was tried, if it is.
    pub(super) fn ended(&self, total: usize) -> Option<Ended> {
        if self.rollout.budget.is_spent(self.report.lock().failed.len(), total) {
            Some(Ended::Spent)
        } else {
            self.stop.borrow().then_some(Ended::Stopped)
        }
    }

    /// From now on the pause between waves counts.
    pub(super) fn begin_pause(&self) {
        if !self.rollout.pause.is_zero() {
            let pause = TimeDelta::from_std(self.rollout.pause).ok();
            let end = pause.and_then(|pause| Utc::now().checked_add_signed(pause));
            *self.next_wave_at.lock() = Some(end.unwrap_or(DateTime::<Utc>::MAX_UTC));
        }
    }

    /// Waits for the time of a wave, unless it is to stop.
    pub(super) async fn await_time(&self, wave: &str, total: usize) {
        let Some(at) = *self.next_wave_at.lock() else { return };
        // Not longer than it may take, also where the clock of the process that noted it was ahead of this one's.
        let left = (at - Utc::now()).to_std().unwrap_or_default().min(self.rollout.pause);
        if left.is_zero() {
            return;
        }
        (self.progress)(RolloutProgress {
            next_wave_at: Some(at),
            ..self.at(&self.report.lock(), wave, total)
        });
        let mut stop = self.stop.clone();
        // Dropping either arm loses nothing: both are asked anew.
        tokio::select! {
            () = tokio::time::sleep(left) => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
    }

    fn at(&self, report: &MigrationReport, wave: &str, total: usize) -> RolloutProgress {
        RolloutProgress {
            version: report.target,
            wave: wave.to_owned(),
            done: self.applied_before + report.done(),
            total,
            failed: report.failed.len(),
            next_wave_at: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_run_has_noted_is_read_by_the_next_one() {
        let at: DateTime<Utc> = "2026-05-04T10:00:00.000000001Z".parse().unwrap();
        let progress = json!({
            "version": 3, "wave": "5 %", "done": 10, "total": 40, "failed": 2, "next_wave_at": at,
        });
        let kept = Kept::of(&progress);
        assert_eq!(
            kept,
            Kept {
                version: 3,
                total: 40,
                next_wave_at: Some(at),
            }
        );
        // On the same base, also when there are more by now.
        assert_eq!((kept.total(3, 31), kept.total(3, 41)), (40, 41));
        assert_eq!(kept.total(4, 31), 31, "with other files nothing is done yet");
        for nothing in [json!({}), Value::Null, json!({ "total": "many" })] {
            assert_eq!(Kept::of(&nothing), Kept::default(), "{nothing}");
        }
    }
}
