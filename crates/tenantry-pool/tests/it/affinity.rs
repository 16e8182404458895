//! Connections stay with their tenants.

use crate::support::{Fixture, small};

async fn pid(fixture: &Fixture, pools: &tenantry_pool::Pools, tenant: usize) -> i32 {
    let outcome = pools
        .query(&fixture.caller(tenant), "select pg_backend_pid()", &[])
        .await
        .unwrap();
    outcome.rows[0].get(0).unwrap()
}

#[tokio::test]
async fn a_tenant_gets_the_connection_that_is_bound_to_it() {
    let fixture = Fixture::new().await;
    let pools = fixture.pools(small(2));
    // Two connections at once, so that both exist.
    let (mut one, mut two) = (
        pools.begin(fixture.caller(0).into()).await.unwrap(),
        pools.begin(fixture.caller(1).into()).await.unwrap(),
    );
    let sql = "select pg_backend_pid()";
    let first: i32 = one.query(sql, &[]).await.unwrap().rows[0].get(0).unwrap();
    let second: i32 = two.query(sql, &[]).await.unwrap().rows[0].get(0).unwrap();
    assert_ne!(first, second);
    one.commit().await.unwrap();
    two.commit().await.unwrap();
    for tenant in [0, 1, 1, 0, 0, 1] {
        assert_eq!(pid(&fixture, &pools, tenant).await, [first, second][tenant]);
    }
}

#[tokio::test]
async fn one_connection_serves_tenants_in_turn() {
    let fixture = Fixture::new().await;
    let pools = fixture.pools(small(1));
    for _ in 0..5 {
        assert_eq!(fixture.names(&pools, 0).await, ["Ada"]);
        assert_eq!(fixture.names(&pools, 1).await, ["Bob"]);
    }
    assert_eq!(fixture.sessions().await.len(), 1);
}

#[tokio::test]
async fn a_placement_is_looked_up_once_by_many_callers() {
    let fixture = Fixture::new().await;
    let pools = fixture.pools(small(4));
    let calls = (0..20).map(|_| fixture.names(&pools, 0));
    let all = futures_util::future::join_all(calls).await;
    assert!(all.iter().all(|names| *names == ["Ada"]));
    assert_eq!(fixture.source.asked.load(std::sync::atomic::Ordering::Relaxed), 1);
    pools.invalidate(fixture.tenants[0]).await;
    fixture.names(&pools, 0).await;
    assert_eq!(fixture.source.asked.load(std::sync::atomic::Ordering::Relaxed), 2);
}
