//! A roll-out over the fleet. It resumes by itself: what is done is in the ledgers, what failed in the catalog, and when the next wave
//! begins in the operation's progress.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use serde_json::Value;
use tenantry_catalog::operation::OperationState;
use tokio::sync::Notify;

use super::{Failure, Journal, failure::Reason};
use crate::{
    Authority, MigrationError, Ops, RolloutProgress, RolloutRequest,
    migrations::{Before, Kept, outcome_of, progress_of},
};

/// How often the operation's progress is written down.
const NOTED_EVERY: Duration = Duration::from_millis(500);

pub(super) const STEPS: &[&str] = &["migrate"];

pub(super) async fn forward(ops: &Ops, journal: &Journal) -> Result<(), Failure> {
    journal.begin(STEPS[0]).await?;
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
    let authority = Authority::system(format!("operation {}", journal.operation.id));
    let before = Before {
        since: journal.operation.created_at,
        kept: Kept::of(&journal.operation.progress),
    };
    let news = News::default();
    let progress = |at| news.tell(at);
    let work = ops.run_rollout(&authority, &rollout, Some(before), &progress);
    let went = match telling(journal, &news, work).await? {
        Ok(went) => went,
        Err(MigrationError::Catalog(error)) => return Err(error.into()),
        Err(error @ MigrationError::Server(_)) => return Err(Failure::retry("server_unreachable", error.to_string())),
        Err(error) => return fail(ops, journal, "rollout_refused", error.to_string()).await,
    };
    journal.note_progress(&outcome_of(&went)).await?;
    journal.end(STEPS[0]).await?;
    let report = went.report;
    if report.failed.is_empty() {
        return finish(ops, journal, OperationState::Done, None).await;
    }
    let message = format!(
        "{} schemas stayed behind and {} were not tried: mend what `progress` names and start again",
        report.failed.len(),
        report.left
    );
    fail(ops, journal, "schemas_left_behind", message).await
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
