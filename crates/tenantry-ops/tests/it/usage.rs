//! What tenants used, by the day: how long it is kept, and who measures.

use tenantry_catalog::usage_day::{self, More};
use tenantry_core::{Isolation, PlanLimits};

use crate::fleet::{self, Fleet, operator};

#[tokio::test(flavor = "multi_thread")]
async fn days_are_forgotten_after_four_hundred() {
    let fleet = Fleet::start().await;
    let tenant = fleet.create("acme", Isolation::Shared).await.unwrap();
    // So that it does not matter should it be midnight meanwhile.
    let days = "insert into tenantry_catalog.usage_day (tenant, day, requests)
                select $1::uuid, (now() at time zone 'UTC')::date - n, n from unnest(array[1, 398, 401, 800]) as n";
    let admin = fleet.catalog.connect().await;
    admin.execute(days, &[tenant.id.as_uuid()]).await.unwrap();
    let client = fleet.ops.catalog().client().await.unwrap();
    assert_eq!(usage_day::prune(&client).await.unwrap(), 2);
    let kept = usage_day::list(&client, tenant.id, 1000).await.unwrap();
    let kept: Vec<i64> = kept.iter().map(|day| day.requests).collect();
    assert_eq!(kept, [1, 398]);
    assert_eq!(usage_day::prune(&client).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_processes_one_measures_at_a_time() {
    let fleet = Fleet::start().await;
    let tenant = fleet.create("acme", Isolation::Schema).await.unwrap();
    let limits = PlanLimits {
        jobs: 5.try_into().ok(),
        ..PlanLimits::default()
    };
    fleet
        .ops
        .set_plan_limits(&operator(), &tenant.plan, &limits)
        .await
        .unwrap();
    let mut client = fleet.ops.catalog().client().await.unwrap();
    let used = More {
        tenant: tenant.id,
        requests: 1,
        limited: 0,
        failed: 0,
        busy_ms: 1,
    };
    usage_day::add(&client, &[used]).await.unwrap();
    let other = fleet::ops_on(&fleet.catalog.url(), fleet::config()).await;
    let turn = client.transaction().await.unwrap();
    assert!(usage_day::take_turn(&turn).await.unwrap());
    assert_eq!(other.measure_limited().await.unwrap(), 0, "another process is at it");
    turn.rollback().await.unwrap();
    assert_eq!(other.measure_limited().await.unwrap(), 1);
    // Nobody keeps a turn that is over.
    assert_eq!(fleet.ops.measure_limited().await.unwrap(), 1);
}
