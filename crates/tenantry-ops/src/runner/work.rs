//! One operation from where it stands to where it ends.

use std::time::Duration;

use futures_util::FutureExt as _;
use tenantry_catalog::{
    operation::{OperationKind, OperationState},
    tenant::Tenant,
};

use super::{
    Failure, Journal,
    failure::{NEWER_FILES, Reason, UNREACHABLE},
    fence, look, migrate, moving, prepare, provision, purge, restore, undo,
};
use crate::{Ops, archive::Birth};

/// The pause before the first new try; it doubles.
const PAUSE_MIN: Duration = Duration::from_millis(200);
/// As often a move tries a server that does not answer: with the pauses, half a minute, in which it may have started again. One that is away
/// for longer keeps the log of the other one for nothing.
const RESTART_ATTEMPTS: i32 = 8;
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// How often an operation is tried for which this process's migrations are too old. With the pauses it is some eight minutes, in
/// which a deployment has come to a process that has them.
const DEPLOY_ATTEMPTS: i32 = 16;

/// Works on the operation until it ends, is put off or is lost; gives the tenant, where it has activated one.
pub(super) async fn run(ops: &Ops, mut journal: Journal) -> Option<Tenant> {
    let id = journal.operation.id;
    if let Err(failure) = drive(ops, &mut journal).await {
        // Whatever it is: the lease runs out, and the next runner goes on at the recorded step.
        tracing::warn!(operation.id = %id, ?failure, "the operation is left to the next runner");
    }
    journal.into_activated()
}

async fn drive(ops: &Ops, journal: &mut Journal) -> Result<(), Failure> {
    if journal.operation.state != OperationState::Undoing {
        let outcome = journal.guard(in_time(ops, journal, forward(ops, journal))).await;
        let has_failed = matches!(outcome, Err(Failure::Retry(_) | Failure::Permanent(_)));
        let can_be_undone = has_failed && can_be_undone(ops, journal).await;
        let may_try_again = !can_be_undone || journal.operation.attempts < attempts_max(ops, journal, &outcome);
        match outcome {
            Ok(()) => return Ok(()),
            Err(Failure::LeaseLost) => return Err(Failure::LeaseLost),
            Err(Failure::Parked) => return Ok(()),
            Err(Failure::Retry(reason)) if may_try_again => return put_off(journal, &reason).await,
            Err(Failure::Permanent(reason)) if !can_be_undone => {
                return put_off(journal, &reason).await;
            }
            Err(Failure::Retry(reason) | Failure::Permanent(reason)) => {
                if reason.code == "aborted" {
                    tracing::info!(operation.id = %journal.operation.id, "an operator called an operation off: it is undone");
                } else {
                    tracing::error!(
                        operation.id = %journal.operation.id, operation.kind = %journal.operation.kind,
                        error = reason.message, "an operation failed and is undone"
                    );
                }
                journal.begin_undo(&reason).await?;
            }
        }
    }
    match journal.guard(in_time(ops, journal, undo::undo(ops, journal))).await {
        // What was made must go, however long the server is away.
        Err(Failure::Retry(reason) | Failure::Permanent(reason)) => put_off(journal, &reason).await,
        other => other,
    }
}

/// Cuts a try that hangs; dropping it closes its connections. A purge deletes, a move copies and a restore loads as long as there are rows, and a
/// roll-out goes on as long as there are schemas.
async fn in_time(ops: &Ops, journal: &Journal, work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    const LONG: Duration = Duration::from_secs(24 * 3600);
    let patience = match journal.operation.kind {
        OperationKind::Purge
        | OperationKind::Move
        | OperationKind::Restore
        | OperationKind::Migrate
        | OperationKind::PlanMigrations
        | OperationKind::VerifyMigrations => LONG,
        // As long as there are rows to be loaded.
        OperationKind::Provision if Birth::is_of(&journal.operation) => LONG,
        _ => ops.fleet().patience_per_try,
    };
    match tokio::time::timeout(patience, work).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Failure::retry(
            "server_unreachable",
            format!("no answer within {} s", patience.as_secs()),
        )),
    }
}

/// What only makes things can be undone by removing them; what removes or fences can only go on. A move can be undone until the
/// tenant lives in its new home, and a restore until the tenant has the backup's rows.
async fn can_be_undone(ops: &Ops, journal: &Journal) -> bool {
    match journal.operation.kind {
        OperationKind::Provision | OperationKind::PrepareDatabase => true,
        OperationKind::Move => moving::may_be_undone(ops, journal).boxed().await,
        OperationKind::Restore => restore::may_be_undone(ops, journal).await,
        _ => false,
    }
}

/// How often this is tried before it is undone.
fn attempts_max(ops: &Ops, journal: &Journal, outcome: &Result<(), Failure>) -> i32 {
    let fleet = ops.fleet();
    match outcome {
        Err(Failure::Retry(reason)) if journal.operation.kind == OperationKind::Move && reason.is_in_the_way() => {
            fleet.move_attempts_max.max(fleet.attempts_max)
        }
        Err(Failure::Retry(reason)) if journal.operation.kind == OperationKind::Move && reason.code == UNREACHABLE => {
            fleet.move_attempts_max.min(RESTART_ATTEMPTS).max(fleet.attempts_max)
        }
        Err(Failure::Retry(reason)) if reason.code == NEWER_FILES => fleet.attempts_max.max(DEPLOY_ATTEMPTS),
        _ => fleet.attempts_max,
    }
}

async fn put_off(journal: &Journal, reason: &Reason) -> Result<(), Failure> {
    let doublings = journal.operation.attempts.clamp(1, 16) as u32 - 1;
    let pause = (PAUSE_MIN * 2_u32.pow(doublings)).min(PAUSE_MAX);
    tracing::warn!(
        operation.id = %journal.operation.id, operation.kind = %journal.operation.kind, error = reason.message,
        pause_ms = pause.as_millis() as u64, "a step failed and is tried again"
    );
    Ok(journal.put_off(reason, pause).await?)
}

async fn forward(ops: &Ops, journal: &Journal) -> Result<(), Failure> {
    match journal.operation.kind {
        OperationKind::Provision => provision::forward(ops, journal).boxed().await,
        OperationKind::PrepareDatabase => prepare::forward(ops, journal).boxed().await,
        OperationKind::Suspend => fence::suspend(ops, journal).await,
        OperationKind::Resume => fence::resume(ops, journal).await,
        OperationKind::Move => moving::forward(ops, journal).boxed().await,
        OperationKind::Restore => restore::forward(ops, journal).boxed().await,
        OperationKind::Purge => purge::forward(ops, journal).await,
        OperationKind::Migrate => migrate::forward(ops, journal).boxed().await,
        OperationKind::PlanMigrations => look::plan(ops, journal).await,
        OperationKind::VerifyMigrations => look::verify(ops, journal).await,
        kind => {
            let message = format!("this program does not know the operation {kind}: use the one that made it");
            Err(Failure::retry("unknown", message))
        }
    }
}
