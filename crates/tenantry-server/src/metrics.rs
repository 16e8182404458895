//! The process's metrics, in Prometheus' format.

use std::{sync::OnceLock, time::Duration};

use metrics::{describe_gauge, gauge};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tenantry::PoolStatus;
use tokio::task::JoinHandle;

use crate::layer::describe_metrics;

/// From a cached answer to a tenant with its own database being made.
const SECONDS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];

/// How often recorded durations are sorted into their buckets; they wait in memory until then.
const UPKEEP: Duration = Duration::from_secs(5);

const CONNECTIONS: &str = "tenantry_pool_connections";
const WAITING: &str = "tenantry_pool_waiting";

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
        describe_gauge!(CONNECTIONS, "Connections to tenant databases, by what they do.");
        describe_gauge!(WAITING, "Callers that wait for a connection to a tenant database.");
        handle
    })
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

/// The pools as they are now, summed: a label per tenant database would grow with the fleet.
pub(crate) fn note_pools<D>(pools: &[(D, PoolStatus)]) {
    let sum = |figure: fn(&PoolStatus) -> usize| pools.iter().map(|(_, status)| figure(status)).sum::<usize>() as f64;
    let (open, idle) = (sum(|status| status.open), sum(|status| status.idle));
    gauge!(CONNECTIONS, "state" => "idle").set(idle);
    gauge!(CONNECTIONS, "state" => "busy").set(open - idle);
    gauge!(WAITING).set(sum(|status| status.waiting));
}

/// Everything recorded so far.
pub(crate) fn render() -> String {
    handle().render()
}
