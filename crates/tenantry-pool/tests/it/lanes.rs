//! What the lanes of a database leave each other on a full share.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use tenantry_pool::{
    PoolConfig, Pools,
    foreign::{Driver, ForeignPools, ForeignTransaction},
};
use tenantry_testing::FaultProxy;
use tenantry_wire::{Connection, Endpoint, Error, Options};
use tokio_postgres::types::ToSql;

use crate::{
    fleet::Fleet,
    support::{Fixture, small},
};

/// How long the driver takes to say good-bye.
const GOOD_BYE: Duration = Duration::from_millis(300);

/// Our own client as if it were another driver.
struct Other(Connection);

#[async_trait]
impl Driver for Other {
    async fn connect(endpoint: &Endpoint, _: &PoolConfig) -> Result<Self, Error> {
        let connection = Connection::connect(Arc::new(endpoint.clone()), &Options::default()).await?;
        Ok(Self(connection))
    }

    async fn run(&mut self, sql: &str) -> Result<(), Error> {
        self.0.batch(sql).await
    }

    async fn ask(&mut self, sql: &'static str, params: &[&str]) -> Result<Option<String>, Error> {
        let params: Vec<_> = params.iter().map(|param| param as &(dyn ToSql + Sync)).collect();
        let outcome = self.0.query(sql, &params).await?;
        outcome.rows[0].get(0)
    }

    async fn close(self) {
        tokio::time::sleep(GOOD_BYE).await;
        self.0.end().await;
    }
}

fn pools(fleet: &Fleet, connections: usize) -> (Pools, ForeignPools<Other>) {
    let config = PoolConfig {
        server_connections_max: connections,
        ..small(4)
    };
    let pools = Pools::new(fleet.source.clone(), config);
    (pools.clone(), ForeignPools::new(pools))
}

/// The backend that serves a call of the pool's own lane.
async fn own(pools: &Pools, database: usize) -> i32 {
    let caller = Fleet::caller(database);
    let outcome = pools.query(&caller, "select pg_backend_pid()", &[]).await.unwrap();
    outcome.rows[0].get(0).unwrap()
}

async fn begin(other: &ForeignPools<Other>, database: usize) -> ForeignTransaction<Other> {
    other.begin(&Arc::new(Fleet::caller(database))).await.unwrap()
}

async fn backend(mut transaction: ForeignTransaction<Other>) -> String {
    const SQL: &str = "select pg_backend_pid()::text as answer";
    let (driver, call) = transaction.call(SQL).unwrap();
    call.begins();
    let pid = driver.ask(SQL, &[]).await.unwrap().unwrap();
    call.ends();
    transaction.commit().await.unwrap();
    pid
}

async fn until_one_waits(pools: &Pools) {
    let since = Instant::now();
    while pools.server_status()[0].1.waiting == 0 {
        assert!(since.elapsed() < Duration::from_secs(10), "nobody waits");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn both_lanes_of_a_busy_database_keep_a_connection_where_another_database_is_cold() {
    let fleet = Fleet::new(2).await;
    let (pools, other) = pools(&fleet, 2);
    // Used once: with the other database's first one the share is used up.
    own(&pools, 1).await;
    let (mut of_own, mut of_other) = (HashSet::new(), HashSet::new());
    for _ in 0..8 {
        of_own.insert(own(&pools, 0).await);
        of_other.insert(backend(begin(&other, 0).await).await);
    }
    assert_eq!((of_own.len(), of_other.len()), (1, 1), "{of_own:?} {of_other:?}");
}

#[tokio::test]
async fn who_waits_for_a_place_takes_a_connection_of_its_driver_that_comes_back() {
    let fleet = Fleet::new(1).await;
    let (pools, other) = pools(&fleet, 1);
    let held = begin(&other, 0).await;
    let waits = tokio::spawn({
        let other = other.clone();
        async move { backend(begin(&other, 0).await).await }
    });
    until_one_waits(&pools).await;
    let first = backend(held).await;
    assert_eq!(waits.await.unwrap(), first);
    // Nobody waits any more: the connection is not closed for who has gone.
    assert_eq!(backend(begin(&other, 0).await).await, first);
    assert_eq!(pools.server_status()[0].1.waiting, 0);
}

#[tokio::test]
async fn who_waits_for_a_place_gets_that_of_a_connection_that_could_not_be_opened() {
    let fixture = Fixture::new().await;
    let server = fixture.database.cluster();
    let proxy = FaultProxy::start(server.host(), server.port()).await;
    fixture.through(proxy.port());
    let pools = fixture.pools(PoolConfig {
        server_connections_max: 1,
        connect_timeout: Duration::from_secs(2),
        ..small(4)
    });
    let other = ForeignPools::<Other>::new(pools.clone());
    proxy.stall();
    let caller = fixture.caller(0);
    let asks = async {
        let refused = pools.query(&caller, "select 1", &[]).await.unwrap_err();
        assert!(matches!(refused, tenantry_pool::Error::Connect(_)), "{refused}");
        proxy.heal();
    };
    let begins = async {
        while proxy.accepted() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        other.begin(&Arc::new(fixture.caller(0))).await.unwrap()
    };
    let ((), transaction) = tokio::join!(asks, begins);
    backend(transaction).await;
}

#[tokio::test]
async fn who_gives_up_while_there_is_no_place_leaves_its_turn_to_others() {
    let fleet = Fleet::new(1).await;
    let (pools, other) = pools(&fleet, 1);
    let mut held = pools.begin(Fleet::caller(0).into()).await.unwrap();
    held.query("select 1", &[]).await.unwrap();
    let gives_up = tokio::time::timeout(Duration::from_millis(50), begin(&other, 0)).await;
    assert!(gives_up.is_err(), "the server has no place");
    let since = Instant::now();
    let stands = || (other.status()[0].1.open, pools.server_status()[0].1.waiting);
    while stands() != (0, 0) {
        assert!(since.elapsed() < Duration::from_secs(10), "{:?}", stands());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    held.commit().await.unwrap();
    backend(begin(&other, 0).await).await;
}

#[tokio::test]
async fn what_another_driver_is_closing_is_waited_for_before_more_is_closed() {
    let fleet = Fleet::new(4).await;
    let (pools, other) = pools(&fleet, 3);
    backend(begin(&other, 0).await).await;
    let busy = async || [own(&pools, 1).await, own(&pools, 2).await];
    for _ in 0..6 {
        busy().await;
    }
    let before = busy().await;
    let done = std::cell::Cell::new(false);
    let asks = async {
        own(&pools, 3).await;
        done.set(true);
    };
    let (after, ()) = tokio::join!(
        async {
            let mut after = busy().await;
            // Each call that ends is an occasion to look who waits.
            while !done.get() {
                after = busy().await;
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            after
        },
        asks
    );
    assert_eq!(before, after, "a busy database lost its connection too");
}

/// Another driver's transaction, while a call waits for the only connection that the pool's own lane may have.
async fn another_driver_beside_a_full_lane(config: PoolConfig) {
    let fleet = Fleet::new(1).await;
    let pools = Pools::new(fleet.source.clone(), config);
    let other = ForeignPools::<Other>::new(pools.clone());
    let mut held = pools.begin(Fleet::caller(0).into()).await.unwrap();
    held.query("select 1", &[]).await.unwrap();
    let waits = tokio::spawn({
        let pools = pools.clone();
        async move { own(&pools, 0).await }
    });
    until_one_waits(&pools).await;
    // The server has places, and whoever waits could take none of them.
    backend(begin(&other, 0).await).await;
    held.commit().await.unwrap();
    waits.await.unwrap();
}

#[tokio::test]
async fn another_driver_does_not_wait_behind_calls_of_a_database_that_has_all_it_may() {
    another_driver_beside_a_full_lane(small(1)).await;
}

#[tokio::test]
async fn who_has_a_turn_is_not_refused_because_others_of_its_tenant_wait() {
    let config = PoolConfig {
        tenant_waiting_max: 1,
        ..small(1)
    };
    another_driver_beside_a_full_lane(config).await;
}

#[tokio::test]
async fn what_a_driver_had_that_is_gone_is_nothing_to_give_up() {
    let fleet = Fleet::new(3).await;
    let (pools, other) = pools(&fleet, 1);
    backend(begin(&other, 0).await).await;
    drop(other);
    let since = Instant::now();
    while pools.server_status()[0].1.open > 0 {
        assert!(since.elapsed() < Duration::from_secs(10), "it stays open");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // In use more than the first, and the only one that has a connection.
    for _ in 0..8 {
        own(&pools, 1).await;
    }
    own(&pools, 2).await;
}
