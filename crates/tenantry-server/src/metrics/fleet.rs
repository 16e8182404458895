//! Figures of the whole fleet, as the catalog has them: the same from every process.

use std::time::{Duration, Instant};

use metrics::{Unit, describe_gauge, gauge};
use tenantry_ops::{FleetCounts, Ops};
use tokio::sync::Mutex;

const TENANTS: &str = "tenantry_tenants";
const OPERATIONS: &str = "tenantry_operations";
const FAILED_OPERATIONS: &str = "tenantry_operations_failed_last_day";
const BEHIND: &str = "tenantry_migration_behind";
const MIGRATION_FAILURES: &str = "tenantry_migration_failures";
const JOBS_WAITING: &str = "tenantry_jobs_waiting";
const JOBS_OLDEST: &str = "tenantry_jobs_oldest_waiting_seconds";
const JOBS_DEAD: &str = "tenantry_jobs_dead";
const JOBS_COUNTED: &str = "tenantry_jobs_counted_seconds_ago";
const COUNTED: &str = "tenantry_fleet_counted_seconds_ago";

/// The catalog is asked no more often than this, however many ask for the metrics.
const FRESH: Duration = Duration::from_secs(60);
/// Metrics are shown without them where it does not answer by then.
const PATIENCE: Duration = Duration::from_secs(2);

pub(super) fn describe() {
    describe_gauge!(TENANTS, "Tenants of the fleet, by state.");
    describe_gauge!(OPERATIONS, "Operations that are under way or waiting, by kind.");
    describe_gauge!(
        FAILED_OPERATIONS,
        "Operations that failed in the last 24 hours, by kind."
    );
    describe_gauge!(BEHIND, "Schemas that lack the newest migration that any schema has.");
    describe_gauge!(
        MIGRATION_FAILURES,
        "Schemas that could not be migrated at the last attempt."
    );
    describe_gauge!(
        JOBS_WAITING,
        "Jobs of the fleet that are due and that no worker has taken."
    );
    describe_gauge!(
        JOBS_OLDEST,
        Unit::Seconds,
        "For how long the first of these has been due."
    );
    describe_gauge!(JOBS_DEAD, "Jobs of the fleet that are dead.");
    describe_gauge!(
        JOBS_COUNTED,
        Unit::Seconds,
        "How long ago the tenant database was counted that these figures of jobs know least about."
    );
    describe_gauge!(COUNTED, "How old these figures of the fleet are.");
}

/// What the catalog said last, and when.
#[derive(Default, Debug)]
pub(crate) struct FleetFigures(Mutex<Option<(Instant, FleetCounts)>>);

impl FleetFigures {
    /// Shows the figures, new ones where the last are old.
    ///
    /// # Cancel safety
    ///
    /// The next call asks again.
    pub(crate) async fn note(&self, ops: &Ops) {
        // Who comes while somebody asks waits for that answer.
        let mut last = self.0.lock().await;
        if last.as_ref().is_none_or(|(at, _)| at.elapsed() > FRESH) {
            match tokio::time::timeout(PATIENCE, ops.count_fleet()).await {
                Ok(Ok(counts)) => *last = Some((Instant::now(), counts)),
                Ok(Err(error)) => tracing::debug!(%error, "the fleet can't be counted"),
                Err(_) => tracing::debug!("the fleet can't be counted: the catalog does not answer"),
            }
        }
        let Some((at, counts)) = &*last else { return };
        for (state, count) in &counts.tenants {
            gauge!(TENANTS, "state" => state.as_str()).set(*count as f64);
        }
        for (kind, live, failed) in &counts.operations {
            gauge!(OPERATIONS, "kind" => kind.as_str()).set(*live as f64);
            gauge!(FAILED_OPERATIONS, "kind" => kind.as_str()).set(*failed as f64);
        }
        gauge!(BEHIND).set(counts.behind as f64);
        gauge!(MIGRATION_FAILURES).set(counts.migration_failures as f64);
        gauge!(JOBS_WAITING).set(counts.jobs.waiting as f64);
        gauge!(JOBS_OLDEST).set(counts.jobs.oldest.as_secs_f64());
        gauge!(JOBS_DEAD).set(counts.jobs.dead as f64);
        gauge!(JOBS_COUNTED).set(counts.jobs_counted_ago.as_secs_f64());
        gauge!(COUNTED).set(at.elapsed().as_secs_f64());
    }
}
