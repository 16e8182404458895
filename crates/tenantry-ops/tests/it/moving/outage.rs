//! How long a tenant waits whose mover dies while its home is closed.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tenantry_core::Isolation;
use tenantry_ops::FleetConfig;

use super::killed::LETTERS;
use crate::{
    child::Process,
    fleet::{Fleet, config, operator, ops_on},
};

/// Before the switch, and after it.
const PLACES: [&str; 3] = ["after_close", "before_switch", "after_switch"];
/// Less than is left of a usual lease at any time, and twice what it takes: the short lease, and the next look of a runner.
const SOON: Duration = Duration::from_secs(8);

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_whose_mover_is_killed_behind_the_closed_fence_is_served_again_in_seconds() {
    let fleet = Fleet::of_two().await;
    let mut tenants = Vec::new();
    for (place, letter) in PLACES.into_iter().zip(LETTERS) {
        let slug = format!("waits-{letter}");
        let tenant = fleet.filled(&slug, Isolation::Shared).await.id;
        tenants.push((slug, place, tenant, fleet.rows(tenant).await));
    }
    let url = fleet.catalog.url();
    let hung = tenants.iter().map(|(slug, place, ..)| {
        let stop = format!("move.{place}");
        let child = Process::start(&url, "leased-schema@two", slug, &format!("{stop}=stop"));
        async move { child.comes_to(&stop).await }
    });
    let hung = join_all(hung).await;
    let mut usual = config();
    usual.lease = FleetConfig::default().lease;
    assert!(usual.lease > SOON);
    let ops = ops_on(&url, usual).await;
    let runner = tokio::spawn(async move { ops.run_operations().await });
    for (_, place, tenant, _) in &tenants {
        assert!(fleet.enter(*tenant).await.is_err(), "{place}: it is closed");
    }
    drop(hung);
    let killed = Instant::now();
    for (_, place, tenant, _) in &tenants {
        fleet
            .poll("the tenant to be served", async || fleet.enter(*tenant).await.is_ok())
            .await;
        assert!(killed.elapsed() < SOON, "{place}: it waited for {:?}", killed.elapsed());
    }
    fleet.operations_end().await;
    runner.abort();
    for (_, place, tenant, rows) in &tenants {
        assert_eq!(fleet.place(*tenant).await, "schema@two", "{place}");
        assert_eq!(fleet.rows(*tenant).await, *rows, "{place}");
        fleet.lives_once(*tenant, place).await;
        let newest = fleet.ops.list_operations(&operator(), Some(*tenant), None, 1).await;
        assert_eq!(fleet.open_cleanups(newest.unwrap()[0].id).await, 0, "{place}");
    }
}
