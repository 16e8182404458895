//! What a plan gives and what a transaction may last hold for other drivers too.

use std::time::{Duration, Instant};

use diesel_async::RunQueryDsl;
use futures_util::TryStreamExt;
use tenantry::{Error, ErrorKind, PlanLimits, PoolConfig};

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

/// How many callers wait, over all databases and drivers.
fn waiting(world: &World) -> usize {
    world
        .tenantry
        .pool_status()
        .iter()
        .map(|(_, status)| status.waiting)
        .sum()
}

#[tokio::test]
async fn a_tenant_that_has_what_its_plan_gives_is_told_so_whichever_driver_it_asks_by() {
    let world = World::with(PoolConfig {
        wait_timeout: Duration::from_millis(300),
        ..small(3)
    })
    .await;
    let limits = PlanLimits {
        concurrent: 1.try_into().ok(),
        ..PlanLimits::default()
    };
    set(&world, limits).await;
    let scope = world.scope(0).await;
    let held = scope.begin_sqlx().await.unwrap();
    let (sqlx, diesel, own) = tokio::join!(
        by_sqlx(&world, QUICK),
        by_diesel(&world, QUICK),
        tenantry::Scope::execute(&scope, "select 1", &[]),
    );
    for error in [sqlx.unwrap_err(), diesel.unwrap_err(), own.unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::TenantBusy, "{error}");
    }
    // There are connections enough: another tenant has one at once.
    sqlx::query("select 1").execute(&world.scope(1).await).await.unwrap();
    held.commit().await.unwrap();
    tenantry::Scope::execute(&scope, "select 1", &[]).await.unwrap();
    by_sqlx(&world, QUICK).await.unwrap();
    by_diesel(&world, QUICK).await.unwrap();
}

#[tokio::test]
async fn who_waits_for_its_tenants_limit_is_served_when_another_driver_gives_back() {
    let world = World::with(small(3)).await;
    let limits = PlanLimits {
        concurrent: 1.try_into().ok(),
        ..PlanLimits::default()
    };
    set(&world, limits).await;
    let scope = world.scope(0).await;
    let until_one_waits = async || {
        while waiting(&world) == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let mut held = scope.begin().await.unwrap();
    tenantry::Transaction::execute(&mut held, "select 1", &[])
        .await
        .unwrap();
    let (served, ()) = tokio::join!(by_sqlx(&world, QUICK), async {
        until_one_waits().await;
        held.commit().await.unwrap();
    });
    served.unwrap();
    let held = scope.begin_diesel().await.unwrap();
    let (served, ()) = tokio::join!(tenantry::Scope::execute(&scope, "select 1", &[]), async {
        until_one_waits().await;
        held.commit().await.unwrap();
    });
    served.unwrap();
}

#[tokio::test]
async fn a_transaction_of_another_driver_that_lasts_too_long_is_ended() {
    let world = World::with(PoolConfig {
        transaction_timeout: Duration::from_millis(300),
        ..small(1)
    })
    .await;
    let scope = world.scope(0).await;
    let insert = "insert into contact (id, name) values (7, 'late')";
    let mut by_sqlx = scope.begin_sqlx().await.unwrap();
    sqlx::query(insert).execute(&mut by_sqlx).await.unwrap();
    let mut by_diesel = world.scope(2).await.begin_diesel().await.unwrap();
    diesel::sql_query(insert).execute(&mut by_diesel).await.unwrap();
    // Both do nothing, and hold on.
    world
        .nobody_is_in_a_transaction("an application that forgot them")
        .await;
    let errors = [
        Error::from(sqlx::query("select 1").execute(&mut by_sqlx).await.unwrap_err()),
        Error::from(diesel::sql_query("select 1").execute(&mut by_diesel).await.unwrap_err()),
        by_sqlx.commit().await.unwrap_err(),
        by_diesel.commit().await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    }
    world.assert_untouched().await;
    // The next ones have the whole time, on a connection of their own.
    sqlx::query("select 1").execute(&scope).await.unwrap();
    scope.begin_diesel().await.unwrap().commit().await.unwrap();
}

#[tokio::test]
async fn rows_of_sqlx_that_are_not_asked_for_are_given_up() {
    let world = World::with(PoolConfig {
        transaction_timeout: Duration::from_millis(300),
        ..small(1)
    })
    .await;
    let scope = world.scope(0).await;
    // More than the sockets between hold, so that the statement can't have come to its end.
    let sql = "select repeat('x', 1000) from generate_series(1, 1000000)";
    let mut rows = sqlx::query(sql).fetch(&scope);
    rows.try_next().await.unwrap().unwrap();
    world
        .nobody_is_in_a_transaction("a client that has stopped to read")
        .await;
    let error = loop {
        match rows.try_next().await {
            Ok(row) => assert!(row.is_some(), "it ended as if that were all"),
            Err(error) => break Error::from(error),
        }
    };
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    drop(rows);
    world.assert_untouched().await;
}
