//! The process's metrics, in Prometheus' format.
//!
//! The number of series is bounded: labels come from our routes, a fixed list of methods, the statuses and kinds that we know, and
//! from so many of the fleet's servers: see [`servers`]. No label is what a client sent. Which tenants use most is shown to
//! operators only, as so many tenants and all others together: see [`busiest`].

mod busiest;
mod fleet;
mod jobs;
mod servers;

use std::{sync::OnceLock, time::Duration};

use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tenantry::{PoolCounts, Tenantry, jobs::JobCounts};
use tokio::task::JoinHandle;

pub(crate) use busiest::busiest;
pub(crate) use fleet::FleetFigures;
pub(crate) use jobs::jobs;
pub(crate) use servers::servers;

use crate::layer::describe_metrics;

/// From a cached answer to a tenant with its own database being made.
const SECONDS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];

/// How often recorded durations are sorted into their buckets; they wait in memory until then.
const UPKEEP: Duration = Duration::from_secs(5);

/// The label of what is summed because it is not among those with series of their own.
const OTHER: &str = "other";

const CONNECTIONS: &str = "tenantry_pool_connections";
const WAITING: &str = "tenantry_pool_waiting";
const OPENED: &str = "tenantry_pool_opened_total";
const OPEN_FAILURES: &str = "tenantry_pool_open_failures_total";
const WAITS: &str = "tenantry_pool_waits_total";
const WAITED: &str = "tenantry_pool_wait_milliseconds_total";
const READS: &str = "tenantry_reads_total";
const REPLICA_FAILURES: &str = "tenantry_replica_failures_total";
const SLOW: &str = "tenantry_slow_statements_total";
const JOBS: &str = "tenantry_jobs_total";
const FENCE_REFUSALS: &str = "tenantry_fence_refusals_total";
const SEAL_REFUSALS: &str = "tenantry_seal_refusals_total";
const SESSION_REFUSALS: &str = "tenantry_session_refusals_total";
const LOOKUPS: &str = "tenantry_catalog_lookups_total";
const CURRENT: &str = "tenantry_catalog_current";
const DRAINING: &str = "tenantry_draining";
const BUILD: &str = "tenantry_build_info";

/// The recorder is the process's, also where a process starts several servers, as the tests do.
static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();

fn handle() -> &'static PrometheusHandle {
    HANDLE.get_or_init(|| {
        let builder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), SECONDS)
            .expect("the list of buckets is not empty");
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        // Where the program has installed a recorder of its own, that one records and /metrics stays empty.
        if metrics::set_global_recorder(recorder).is_err() {
            tracing::warn!("another metrics recorder is installed: /metrics will show nothing");
        }
        describe_metrics();
        fleet::describe();
        describe();
        handle
    })
}

fn describe() {
    describe_gauge!(CONNECTIONS, "Connections to tenant databases, by what they do.");
    describe_gauge!(WAITING, "Callers that wait for a connection to a tenant database.");
    describe_counter!(OPENED, "Connections to tenant databases that were opened.");
    describe_counter!(
        OPEN_FAILURES,
        "Connections to tenant databases that could not be opened."
    );
    describe_counter!(WAITS, "Callers that had to wait for a connection to a tenant database.");
    describe_counter!(WAITED, Unit::Milliseconds, "How long they waited, all together.");
    describe_counter!(READS, "Reads that a replica may answer, by where they were answered.");
    describe_counter!(
        REPLICA_FAILURES,
        "Reads that failed at a replica for what it is, and were repeated at its primary."
    );
    describe_counter!(SLOW, "Statements of tenants that took longer than slow_statement_ms.");
    describe_counter!(
        JOBS,
        "Attempts at jobs by workers in this process, by what became of them."
    );
    describe_counter!(
        FENCE_REFUSALS,
        "Calls that a fence refused: their tenant had moved, was moving or was suspended."
    );
    describe_counter!(SEAL_REFUSALS, "Tokens that a tenant database did not accept.");
    describe_counter!(
        SESSION_REFUSALS,
        "Sessions that were not as they had been left; their connections were closed."
    );
    describe_counter!(
        LOOKUPS,
        "Questions to the catalog about who asks, because the answer was not in memory."
    );
    describe_gauge!(
        CURRENT,
        "Whether the catalog's changes are known: 0 means that everything is refused."
    );
    describe_gauge!(DRAINING, "Whether the process is stopping.");
    describe_gauge!(BUILD, "1, with the version of the program.");
}

/// Begins to record.
pub(crate) fn install() -> JoinHandle<()> {
    let handle = handle();
    tokio::spawn(async move {
        let mut interval = tokio::time::interval(UPKEEP);
        loop {
            interval.tick().await;
            handle.run_upkeep();
        }
    })
}

/// What is kept elsewhere, as it is now.
pub(crate) fn note(tenantry: &Tenantry, draining: bool) {
    // Summed: a label per tenant database would grow with the fleet.
    let pools = tenantry.pool_status();
    let sum = |figure: fn(&tenantry::PoolStatus) -> usize| {
        pools.iter().map(|(_, status)| figure(status)).sum::<usize>() as f64
    };
    let (open, idle) = (sum(|status| status.open), sum(|status| status.idle));
    gauge!(CONNECTIONS, "state" => "idle").set(idle);
    gauge!(CONNECTIONS, "state" => "busy").set(open - idle);
    gauge!(WAITING).set(sum(|status| status.waiting));

    let counts = PoolCounts::now();
    for (name, count) in [
        (OPENED, counts.opened),
        (OPEN_FAILURES, counts.open_failures),
        (WAITS, counts.waits),
        (WAITED, u64::try_from(counts.waited.as_millis()).unwrap_or(u64::MAX)),
        (SLOW, counts.slow_statements),
        (FENCE_REFUSALS, counts.fence_refusals),
        (SEAL_REFUSALS, counts.seal_refusals),
        (SESSION_REFUSALS, counts.session_refusals),
        (REPLICA_FAILURES, counts.replica_failures),
    ] {
        counter!(name).absolute(count);
    }
    for (place, count) in [("replica", counts.replica_reads), ("primary", counts.primary_reads)] {
        counter!(READS, "place" => place).absolute(count);
    }
    let jobs = JobCounts::now();
    for (outcome, count) in [
        ("done", jobs.done),
        ("failed", jobs.failed),
        ("given_back", jobs.given_back),
        ("lost", jobs.lost),
    ] {
        counter!(JOBS, "outcome" => outcome).absolute(count);
    }
    if let Ok(resolver) = tenantry.resolver() {
        counter!(LOOKUPS).absolute(resolver.catalog_lookups());
        gauge!(CURRENT).set(f64::from(u8::from(resolver.is_current())));
    }
    gauge!(DRAINING).set(f64::from(u8::from(draining)));
    gauge!(BUILD, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
}

/// Everything recorded so far.
pub(crate) fn render() -> String {
    handle().render()
}
