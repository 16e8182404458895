//! A server that falls silent in the middle of what it does: packets are swallowed, and nothing says so.

use std::time::{Duration, Instant};

use tenantry_pool::{Error, PoolConfig};
use tenantry_testing::FaultProxy;

use crate::support::{Fixture, small};

const STATEMENT: Duration = Duration::from_millis(1500);
const CONNECT: Duration = Duration::from_millis(1000);
/// Gives more than the sockets between hold.
const LONG: &str = "select repeat('x', 1000) from generate_series(1, 1000000)";

fn assert_timed_out<T>(result: Result<T, Error>, what: &str) {
    match result {
        Err(Error::StatementTimeout(_)) => {}
        Err(error) => panic!("{what}: {error}"),
        Ok(_) => panic!("{what}: it was answered"),
    }
}

#[tokio::test]
async fn whatever_is_asked_ends_in_time_and_gives_its_place_back() {
    let fixture = Fixture::new().await;
    let server = fixture.database.cluster();
    let proxy = FaultProxy::start(server.host(), server.port()).await;
    fixture.through(proxy.port());
    let pools = fixture.pools(PoolConfig {
        statement_timeout: STATEMENT,
        connect_timeout: CONNECT,
        ..small(4)
    });
    let caller = fixture.caller(0);
    let mut rows = pools.stream(&caller, LONG, &[]).await.unwrap();
    rows.next().await.unwrap().unwrap();
    let mut data = pools
        .copy_out(&caller, &format!("copy ({LONG}) to stdout"))
        .await
        .unwrap();
    data.next().await.unwrap().unwrap();
    let mut transaction = pools.begin(fixture.caller(0).into()).await.unwrap();
    transaction.query("select 1", &[]).await.unwrap();
    let mut sleeps = pools.begin(fixture.caller(0).into()).await.unwrap();
    sleeps.query("select 1", &[]).await.unwrap();
    let begun = Instant::now();
    let (slept, (read, copied, committed)) = tokio::join!(sleeps.query("select pg_sleep(60)", &[]), async {
        fixture
            .until("they run", |sessions| {
                sessions.iter().filter(|(_, state, _)| state == "active").count() == 3
            })
            .await;
        proxy.stall();
        let read = async {
            while rows.next().await?.is_some() {}
            Ok::<_, Error>(())
        };
        let copied = async {
            while data.next().await?.is_some() {}
            Ok::<_, Error>(())
        };
        tokio::join!(read, copied, transaction.commit())
    });
    assert_timed_out(slept, "a statement");
    assert_timed_out(read, "rows");
    assert_timed_out(copied, "data");
    assert_timed_out(committed, "a commit");
    drop((rows, data, sleeps));
    // The server has not heard of any of this, and is not waited for without end.
    while pools.server_status()[0].1.open > 0 {
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", pools.server_status());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    proxy.heal();
    assert_eq!(fixture.names(&pools, 0).await, ["Ada"]);
}
