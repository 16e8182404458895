//! A roll-out over the fleet. It resumes by itself: what is done is in the ledgers, what failed in the catalog, and when the next wave
//! begins in the operation's progress.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use serde_json::{Value, json};
use tenantry_catalog::operation::{self, OperationState};
use tokio::sync::Notify;

use super::{
    Failure, Journal,
    failure::Reason,
    steered::{Stop, stop_is_wanted},
};
use crate::{
    Authority, MigrationError, Ops, Rollout, RolloutProgress, RolloutRequest,
    migrations::{Before, Ended, Kept, Went, outcome_of, progress_of},
};

/// How often the operation's progress is written down.
const NOTED_EVERY: Duration = Duration::from_millis(500);

pub(super) const STEPS: &[&str] = &["migrate"];

pub(super) async fn forward(ops: &Ops, journal: &Journal) -> Result<(), Failure> {
    journal.begin(STEPS[0]).await?;
    // What was wanted while nobody worked on it needs nothing but the catalog.
    if Stop::of(journal.operation.wish).is_some() {
        let told = so_far(&journal.operation.progress);
        if settle(ops, journal, &told, &End::Stopped).await? == Settled::Yes {
            return Ok(());
        }
    }
    let request: RolloutRequest = serde_json::from_value(journal.operation.input.clone()).map_err(|error| {
        Failure::retry(
            "unknown",
            format!("this program does not know such a roll-out: {error}"),
        )
    })?;
    let rollout = match request.rollout() {
        Ok(rollout) => rollout,
        Err(error) => return fail(ops, journal, "rollout_refused", error.to_string()).await,
    };
    let mut kept = Kept::of(&journal.operation.progress);
    loop {
        let before = Before {
            since: journal.operation.created_at,
            kept,
        };
        let went = match run(ops, journal, &rollout, before).await? {
            Ok(went) => went,
            Err(MigrationError::Catalog(error)) => return Err(error.into()),
            Err(error @ MigrationError::Server(_)) => {
                return Err(Failure::retry("server_unreachable", error.to_string()));
            }
            Err(error) => return fail(ops, journal, "rollout_refused", error.to_string()).await,
        };
        if went.ended != Ended::Stopped {
            journal.end(STEPS[0]).await?;
        }
        if settle(ops, journal, &outcome_of(&went), &End::of(&went)).await? == Settled::Yes {
            return Ok(());
        }
        kept = Kept::from(&went);
    }
}

/// One run, until an operator wants it to stop.
async fn run(
    ops: &Ops,
    journal: &Journal,
    rollout: &Rollout,
    before: Before,
) -> Result<Result<Went, MigrationError>, Failure> {
    let authority = Authority::system(format!("operation {}", journal.operation.id));
    let news = News::default();
    let progress = |at| news.tell(at);
    // What is wanted is looked at when nothing is at work any more.
    let stop = async {
        stop_is_wanted(ops, journal).await;
    };
    let work = ops.run_rollout(&authority, rollout, Some(before), stop, &progress);
    telling(journal, &news, work).await
}

/// How a run leaves the roll-out.
enum End {
    Done,
    Failed(Reason),
    /// Nothing is at work, and something may be left.
    Stopped,
}

impl End {
    fn of(went: &Went) -> Self {
        let report = &went.report;
        match went.ended {
            Ended::Stopped => Self::Stopped,
            Ended::Through | Ended::Spent if report.failed.is_empty() => Self::Done,
            Ended::Through | Ended::Spent => Self::Failed(Reason {
                code: "schemas_left_behind",
                message: format!(
                    "{} schemas stayed behind and {} were not tried: mend what `progress` names and start again",
                    report.failed.len(),
                    report.left
                ),
            }),
        }
    }
}

/// Whether somebody has to go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
enum Settled {
    /// It has ended, or waits to be resumed.
    Yes,
    /// It was to stop, and was resumed before it did.
    GoesOn,
}

/// Records how the roll-out ended, or what an operator wants of it: one that was called off before it ended is cancelled, however far
/// it came.
async fn settle(ops: &Ops, journal: &Journal, progress: &Value, end: &End) -> Result<Settled, Failure> {
    journal.note_progress(progress).await?;
    let mut client = ops.catalog().client().await?;
    let transaction = client.transaction().await?;
    // From here on whoever wants something waits for how this ends.
    journal.hold(&transaction).await?;
    let wish = operation::wish_of(&transaction, journal.operation.id).await?;
    match (Stop::of(wish), end) {
        (None, End::Stopped) => return Ok(Settled::GoesOn),
        (Some(Stop::Pause), End::Stopped) => journal.pause(&transaction).await?,
        (Some(Stop::Abort), _) => {
            tracing::info!(operation.id = %journal.operation.id, "an operator called a roll-out off");
            let reason = Reason {
                code: "aborted",
                message: called_off(progress),
            };
            // It does not wait for the disk: where the catalog forgets it in a crash, it has the wish still.
            journal.note_progress_in(&transaction, &without_pause(progress)).await?;
            journal
                .finish_because(&transaction, OperationState::Cancelled, Some(&reason))
                .await?;
        }
        (_, End::Done) => journal.finish(&transaction, OperationState::Done).await?,
        (_, End::Failed(reason)) => {
            journal
                .finish_because(&transaction, OperationState::Failed, Some(reason))
                .await?;
        }
    }
    transaction.commit().await?;
    Ok(Settled::Yes)
}

/// What was done and what is left, in a sentence.
fn called_off(progress: &Value) -> String {
    let figure = |name: &str| progress[name].as_u64();
    match (figure("applied"), figure("failed"), figure("left")) {
        (Some(applied), Some(failed), Some(left)) => {
            format!("an operator called it off: {applied} schemas migrated, {failed} failed, {left} not tried")
        }
        _ => "an operator called it off before it began".to_owned(),
    }
}

fn without_pause(progress: &Value) -> Value {
    let mut progress = progress.clone();
    if let Some(fields) = progress.as_object_mut() {
        fields.remove("next_wave_at");
    }
    progress
}

/// The progress of a roll-out that nobody works on, with what was done and what is left, also where a process that died has told only how
/// far it was.
fn so_far(progress: &Value) -> Value {
    let figure = |name: &str| progress[name].as_u64();
    let mut told = progress.clone();
    if let (Some(done), Some(total), Some(failed)) = (figure("done"), figure("total"), figure("failed")) {
        told["applied"] = json!(done.saturating_sub(failed));
        told["left"] = json!(total.saturating_sub(done));
    }
    told
}

/// How far the roll-out is, until it is written down.
#[derive(Default)]
struct News {
    latest: Mutex<Option<RolloutProgress>>,
    has_begun: AtomicBool,
    urgent: Notify,
}

impl News {
    fn tell(&self, at: RolloutProgress) {
        // Whoever goes on when this process has died must know how many schemas there were, and that a wave has to wait.
        let is_urgent = !self.has_begun.swap(true, Ordering::Relaxed) || at.next_wave_at.is_some();
        *self.latest.lock() = Some(at);
        if is_urgent {
            self.urgent.notify_one();
        }
    }

    fn taken(&self) -> Option<Value> {
        self.latest.lock().take().map(|at| progress_of(&at))
    }
}

/// Works and writes down the news: from time to time, and at once where they are urgent.
async fn telling<T>(journal: &Journal, news: &News, work: impl Future<Output = T>) -> Result<T, Failure> {
    tokio::pin!(work);
    loop {
        tokio::select! {
            // The work goes on where it was when another arm has ended.
            done = &mut work => return Ok(done),
            () = news.urgent.notified() => {}
            () = tokio::time::sleep(NOTED_EVERY) => {}
        }
        if let Some(news) = news.taken() {
            journal.note_progress(&news).await?;
        }
    }
}

/// Works and writes down how far it is.
pub(super) async fn noting<T>(
    journal: &Journal,
    work: impl Future<Output = T>,
    news: impl Fn() -> Option<Value>,
) -> Result<T, Failure> {
    tokio::pin!(work);
    loop {
        tokio::select! {
            // The work goes on where it was when the other arm has ended.
            done = &mut work => return Ok(done),
            () = tokio::time::sleep(NOTED_EVERY) => {
                if let Some(news) = news() {
                    journal.note_progress(&news).await?;
                }
            }
        }
    }
}

pub(super) async fn fail(ops: &Ops, journal: &Journal, code: &'static str, message: String) -> Result<(), Failure> {
    let reason = Reason { code, message };
    finish(ops, journal, OperationState::Failed, Some(&reason)).await
}

pub(super) async fn finish(
    ops: &Ops,
    journal: &Journal,
    state: OperationState,
    reason: Option<&Reason>,
) -> Result<(), Failure> {
    let mut client = ops.catalog().client().await?;
    let transaction = client.transaction().await?;
    journal.hold(&transaction).await?;
    journal.finish_because(&transaction, state, reason).await?;
    Ok(transaction.commit().await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_called_off_tells_what_was_done_and_what_is_left() {
        let killed = json!({ "version": 3, "wave": "5 %", "done": 5, "total": 9, "failed": 2, "next_wave_at": null });
        let told = so_far(&killed);
        assert_eq!((&told["applied"], &told["left"]), (&json!(3), &json!(4)));
        assert!(called_off(&told).ends_with("3 schemas migrated, 2 failed, 4 not tried"));
        assert_eq!(so_far(&told), told, "as a run tells it that has ended");
        assert!(without_pause(&told).get("next_wave_at").is_none());
        let untouched = so_far(&json!({}));
        assert_eq!(untouched, json!({}));
        assert!(called_off(&untouched).ends_with("before it began"));
    }
}
