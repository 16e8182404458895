//! What the pools count for metrics. The counters are the process's and tests may share one, so each looks at what was added, at least.

use std::time::Duration;

use tenantry_pool::{PoolConfig, PoolCounts};

use crate::support::{Fixture, small};

#[tokio::test]
async fn refusals_are_counted_by_who_refused() {
    let fixture = Fixture::new().await;
    let admin = fixture.database.connect().await;
    let refuse = async |code: &str| {
        let sql = format!(
            "create or replace function tenantry.enter(p_msg bytea, p_mac bytea) returns void language plpgsql as
             $f$ begin raise exception using errcode = '{code}', message = 'tenantry: refused'; end $f$"
        );
        admin.batch_execute(&sql).await.unwrap();
    };
    let pools = fixture.pools(small(1));
    let ask = async || pools.query(&fixture.caller(0), "select 1", &[]).await.unwrap_err();
    let before = PoolCounts::now();
    // Looked up again, and refused again.
    refuse("TN001").await;
    ask().await;
    refuse("TN002").await;
    ask().await;
    let fenced = PoolCounts::now();
    assert!(
        fenced.fence_refusals >= before.fence_refusals + 3,
        "{before:?} {fenced:?}"
    );
    refuse("28000").await;
    ask().await;
    let rejected = PoolCounts::now();
    assert!(
        rejected.seal_refusals >= fenced.seal_refusals + 2,
        "{fenced:?} {rejected:?}"
    );
}

#[tokio::test]
async fn connections_waits_and_slow_statements_are_counted() {
    let fixture = Fixture::new().await;
    let config = PoolConfig {
        slow_statement: Duration::from_millis(50),
        ..small(1)
    };
    let pools = fixture.pools(config);
    let before = PoolCounts::now();
    fixture.names(&pools, 0).await;
    let opened = PoolCounts::now();
    assert!(opened.opened > before.opened && opened.waits > before.waits && opened.waited > before.waited);
    let long = "select count(*) from generate_series(1, 3000000)";
    pools.query(&fixture.caller(0), long, &[]).await.unwrap();
    assert!(PoolCounts::now().slow_statements > opened.slow_statements);
    let mut home = fixture.source.home.lock().clone();
    let mut endpoint = tenantry_wire::Endpoint::clone(&home.endpoint);
    endpoint.database = "there_is_none".to_owned();
    home.endpoint = std::sync::Arc::new(endpoint);
    *fixture.source.home.lock() = home;
    let elsewhere = fixture.pools(small(1));
    elsewhere.query(&fixture.caller(0), "select 1", &[]).await.unwrap_err();
    assert!(PoolCounts::now().open_failures > before.open_failures);
}
