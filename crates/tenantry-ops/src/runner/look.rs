//! Looking at the fleet, as operations: what pending migrations would do, and whether schemas are what theirs have made.
//! They change nothing but what a repair is asked to; a runner that takes over looks again.

use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use serde_json::json;
use tenantry_catalog::operation::OperationState;

use super::{
    Failure, Journal,
    migrate::{fail, finish, noting},
};
use crate::{
    Authority, MigrationError, Ops, VerifyRequest,
    migrations::{drift_of, plan_of},
};

pub(super) const STEPS: &[&str] = &["look"];

/// Ends as failed where a pending file fails on a copy.
pub(super) async fn plan(ops: &Ops, journal: &Journal) -> Result<(), Failure> {
    journal.begin(STEPS[0]).await?;
    let authority = Authority::system(format!("operation {}", journal.operation.id));
    let seen = Mutex::new(None);
    let progress = |done, total| *seen.lock() = Some(json!({ "done": done, "total": total }));
    let work = async {
        let sites = ops.migration_status(&authority).await?;
        Ok((sites, ops.rehearse_migrations(&authority, &progress).await?))
    };
    let (sites, rehearsals) = match noting(journal, work, || seen.lock().take()).await? {
        Ok(found) => found,
        Err(error) => return refused(ops, journal, error).await,
    };
    let found = plan_of(&rehearsals, &sites, &ops.lint_pending(&sites));
    journal.note_progress(&found).await?;
    journal.end(STEPS[0]).await?;
    match rehearsals.iter().find_map(|rehearsal| rehearsal.error.as_deref()) {
        None => finish(ops, journal, OperationState::Done, None).await,
        Some(error) => {
            let message = format!("a pending migration fails on a copy: {error}");
            fail(ops, journal, "migration_fails", message).await
        }
    }
}

/// Ends as failed where anything differs that was not repaired.
pub(super) async fn verify(ops: &Ops, journal: &Journal) -> Result<(), Failure> {
    journal.begin(STEPS[0]).await?;
    let request: VerifyRequest = serde_json::from_value(journal.operation.input.clone()).map_err(|error| {
        Failure::retry(
            "unknown",
            format!("this program does not know such a comparison: {error}"),
        )
    })?;
    let authority = Authority::system(format!("operation {}", journal.operation.id));
    let (done, total) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let one_more = |_: &str| {
        done.fetch_add(1, Ordering::Relaxed);
    };
    let verify = request.verify();
    let work = async {
        let all = match verify.only.len() {
            0 => ops.migration_status(&authority).await?.len(),
            named => named,
        };
        total.store(all, Ordering::Relaxed);
        ops.verify_migrations(&authority, &verify, &one_more).await
    };
    let news = || {
        let (done, total) = (done.load(Ordering::Relaxed), total.load(Ordering::Relaxed));
        Some(json!({ "done": done, "total": total }))
    };
    let verified = match noting(journal, work, news).await? {
        Ok(verified) => verified,
        Err(error) => return refused(ops, journal, error).await,
    };
    journal.note_progress(&drift_of(&verified)).await?;
    journal.end(STEPS[0]).await?;
    match verified.iter().filter(|site| !site.is_right()).count() {
        0 => finish(ops, journal, OperationState::Done, None).await,
        wrong => {
            let message = format!("{wrong} schemas differ from what their migrations make: `progress` says how");
            fail(ops, journal, "schemas_differ", message).await
        }
    }
}

/// What may pass is tried again; the rest ends the operation.
async fn refused(ops: &Ops, journal: &Journal, error: MigrationError) -> Result<(), Failure> {
    match error {
        MigrationError::Catalog(error) => Err(error.into()),
        error @ MigrationError::Server(_) => Err(Failure::retry("server_unreachable", error.to_string())),
        error => fail(ops, journal, "migrations_refused", error.to_string()).await,
    }
}
