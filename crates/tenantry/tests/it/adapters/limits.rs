//! What a plan gives holds for other drivers too.

use std::time::{Duration, Instant};

use diesel_async::RunQueryDsl;
use tenantry::{Error, ErrorKind, PlanLimits};

use super::small;
use crate::world::World;

/// Takes long without sleeping.
const SLOW: &str = "select count(*) from generate_series(1, 30000000)";
const QUICK: &str = "select current_setting('statement_timeout')";

async fn by_sqlx(world: &World, sql: &'static str) -> Result<(), Error> {
    let read = sqlx::query(sql).fetch_all(&world.scope(0).await).await;
    Ok(read.map(|_| ())?)
}

async fn set(world: &World, limits: PlanLimits) {
    *world.source.limits.lock() = limits;
    world.tenantry.forget_placement(world.tenants[0]).await;
}

async fn by_diesel(world: &World, sql: &'static str) -> Result<(), Error> {
    let scope = world.scope(0).await;
    scope
        .transaction_diesel(async |tx| Ok(diesel::sql_query(sql).execute(tx).await.map(|_| ())?))
        .await
}

#[tokio::test]
async fn a_statement_of_another_driver_may_take_as_long_as_the_plan_gives() {
    let world = World::with(small(1)).await;
    let limits = PlanLimits {
        statement_ms: 200.try_into().ok(),
        ..PlanLimits::default()
    };
    set(&world, limits).await;
    let begun = Instant::now();
    for result in [by_sqlx(&world, SLOW).await, by_diesel(&world, SLOW).await] {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    }
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    by_sqlx(&world, QUICK).await.unwrap();
    by_diesel(&world, QUICK).await.unwrap();
    // The next transaction on the same connection has what its own tenant's plan gives.
    set(&world, PlanLimits::default()).await;
    let shown: (String,) = sqlx::query_as(QUICK).fetch_one(&world.scope(0).await).await.unwrap();
    assert_eq!(shown.0, "30s");
}
