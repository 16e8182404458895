//! A server that falls silent in the middle of a statement: a driver that waits for it is told in time.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use diesel_async::RunQueryDsl;
use futures_util::TryStreamExt;
use tenantry::{Error, ErrorKind, PoolConfig};
use tenantry_testing::FaultProxy;
use tenantry_wire::{Address, Endpoint};

use super::small;
use crate::world::World;

const SLEEP: &str = "select pg_sleep(60)";
/// What is told within some seconds, also on a machine that has much else to do.
const SOON: Duration = Duration::from_secs(50);

/// Leads the first tenant's calls through a proxy.
async fn through_a_proxy(world: &World) -> FaultProxy {
    let server = world.databases[0].test.cluster();
    let proxy = FaultProxy::start(server.host(), server.port()).await;
    {
        let mut homes = world.source.homes.lock();
        let home = homes.get_mut(&world.tenants[0]).unwrap();
        home.endpoint = Arc::new(Endpoint {
            address: Address::Tcp {
                host: "127.0.0.1".to_owned(),
                port: proxy.port(),
            },
            ..Endpoint::clone(&home.endpoint)
        });
    }
    world.tenantry.forget_placement(world.tenants[0]).await;
    proxy
}

/// How many connections are in use, over all databases and drivers.
fn in_use(world: &World) -> usize {
    let status = world.tenantry.pool_status();
    status.iter().map(|(_, status)| status.open - status.idle).sum()
}

/// How many sessions are in the middle of the long statement.
async fn asleep(world: &World) -> i64 {
    let sql =
        "select count(*) from pg_stat_activity where query = $1 and state = 'active' and datname = current_database()";
    let row = world.databases[0].admin.query_one(sql, &[&SLEEP]).await.unwrap();
    row.get(0)
}

#[tokio::test]
async fn whatever_another_driver_asks_ends_in_time_and_gives_its_place_back() {
    let world = World::with(PoolConfig {
        statement_timeout: Duration::from_millis(1200),
        raw_timeout: Duration::from_millis(1200),
        connect_timeout: Duration::from_millis(1200),
        transaction_timeout: 10 * SOON,
        ..small(4)
    })
    .await;
    let proxy = through_a_proxy(&world).await;
    let scope = world.scope(0).await;
    let mut rows = sqlx::query("select repeat('x', 1000) from generate_series(1, 1000000)").fetch(&scope);
    rows.try_next().await.unwrap().unwrap();
    let transaction = scope.begin_sqlx().await.unwrap();
    let mut by_sqlx = scope.begin_sqlx().await.unwrap();
    let mut by_diesel = scope.begin_diesel().await.unwrap();
    let raw = scope.raw();
    let begun = Instant::now();
    let (sqlx, diesel, raw, (read, committed)) = tokio::join!(
        sqlx::query(SLEEP).execute(&mut by_sqlx),
        diesel::sql_query(SLEEP).execute(&mut by_diesel),
        raw.query(SLEEP, &[]),
        async {
            // A server that falls silent while a connection is opened is another matter.
            while asleep(&world).await < 3 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            proxy.stall();
            let read = async {
                while rows.try_next().await?.is_some() {}
                Ok::<_, sqlx::Error>(())
            };
            tokio::join!(read, transaction.commit())
        },
    );
    let errors = [
        ("sqlx", Error::from(sqlx.unwrap_err())),
        ("diesel", Error::from(diesel.unwrap_err())),
        ("raw", raw.map(|_| ()).unwrap_err()),
        ("rows", Error::from(read.unwrap_err())),
        ("commit", committed.unwrap_err()),
    ];
    for (what, error) in errors {
        assert_eq!(error.kind(), ErrorKind::Timeout, "{what}: {error}");
    }
    // Long before the time of a transaction is over, which is the only other thing that would have ended them.
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    drop((rows, by_sqlx, by_diesel));
    while in_use(&world) > 0 {
        assert!(begun.elapsed() < SOON, "{} are in use", in_use(&world));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    proxy.heal();
    sqlx::query("select 1").execute(&scope).await.unwrap();
    world.names(0).await;
}
