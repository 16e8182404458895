//! Tenant databases that an older Tenantry made ready, before this one uses them.

use std::time::Duration;

use tenantry_core::TENANT_DATABASE_VERSION;
use tenantry_ops::{Ops, UpgradedDatabase};

use crate::{connect::authority, failure::Failure};

/// How often those are tried again that could not be reached.
const AGAIN: Duration = Duration::from_secs(10);

/// Brings every registered tenant database up to date; gives those that can't be reached just now. Their tenants are refused
/// until they are up to date.
///
/// # Errors
///
/// Names each database that won't be up to date by itself, or that a newer Tenantry uses.
pub(crate) async fn bring_up_to_date(ops: &Ops) -> Result<Vec<UpgradedDatabase>, Failure> {
    let (waiting, refused): (Vec<_>, Vec<_>) = left_behind(ops).await?.into_iter().partition(|left| left.may_pass);
    if refused.is_empty() {
        return Ok(waiting);
    }
    Err(Failure::failed(format!(
        "not started, since {}: mend that and start again",
        told(&refused)
    )))
}

/// Brings every registered tenant database up to date; gives those that stayed behind, with the reason.
///
/// # Errors
///
/// Where a newer Tenantry uses one of them, or the catalog fails.
pub(crate) async fn left_behind(ops: &Ops) -> Result<Vec<UpgradedDatabase>, Failure> {
    let mut answers = ops.upgrade_databases(&authority()).await?;
    answers.retain(|answer| answer.error.is_some());
    Ok(answers)
}

/// Databases that stayed behind, in a sentence.
pub(crate) fn told(left: &[UpgradedDatabase]) -> String {
    let told: Vec<String> = left
        .iter()
        .map(|left| {
            format!(
                "the tenant database `{}` on `{}` can't be brought up to version {TENANT_DATABASE_VERSION}: {}",
                left.was.database,
                left.was.server,
                left.error.as_deref().unwrap_or_default()
            )
        })
        .collect();
    told.join("; ")
}

/// Tries again what could not be reached, until all is up to date or this value is dropped.
pub(crate) struct Later(Option<tokio::task::JoinHandle<()>>);

impl Later {
    pub(crate) fn start(ops: Ops, waiting: &[UpgradedDatabase]) -> Self {
        if waiting.is_empty() {
            return Self(None);
        }
        Self(Some(tokio::spawn(async move {
            loop {
                tokio::time::sleep(AGAIN).await;
                match left_behind(&ops).await {
                    Ok(left) if left.is_empty() => return,
                    // Each is told where it was tried.
                    Ok(_) => {}
                    Err(failure) => tracing::warn!(error = %failure, "tenant databases can't be brought up to date"),
                }
            }
        })))
    }
}

impl Drop for Later {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}
