//! Rows and data that are asked for slowly: they hold a transaction, which lasts for no longer than one may.

use std::time::Duration;

use tenantry_pool::{Error, PoolConfig};

use crate::support::{Fixture, small};

fn impatient() -> PoolConfig {
    PoolConfig {
        transaction_timeout: Duration::from_millis(300),
        ..small(1)
    }
}

#[tokio::test]
async fn rows_that_are_not_asked_for_are_given_up_and_their_place_is_free() {
    let fixture = Fixture::new().await;
    let pools = fixture.pools(impatient());
    let _task = pools.spawn_shrinking();
    // More than the sockets between hold, so that the statement can't have come to its end.
    let sql = "select n, repeat('x', 1000) from generate_series(1, 1000000) n";
    let mut rows = pools.stream(&fixture.caller(0), sql, &[]).await.unwrap();
    rows.next().await.unwrap().unwrap();
    // Whoever reads has stopped to, and holds on.
    fixture
        .until("the server has ended it", |sessions| sessions.is_empty())
        .await;
    let error = loop {
        match rows.next().await {
            Ok(row) => assert!(row.is_some(), "it ended as if that were all"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::TransactionTimeout(_)), "{error}");
    // Held on to still, it holds nobody up.
    assert_eq!(fixture.names(&pools, 1).await, ["Bob"]);
    drop(rows);
    assert_eq!(fixture.names(&pools, 0).await, ["Ada"]);
}

#[tokio::test]
async fn data_that_is_not_asked_for_is_given_up_too() {
    let fixture = Fixture::new().await;
    let pools = fixture.pools(impatient());
    let _task = pools.spawn_shrinking();
    let sql = "copy (select n, repeat('x', 1000) from generate_series(1, 1000000) n) to stdout";
    let mut data = pools.copy_out(&fixture.caller(0), sql).await.unwrap();
    data.next().await.unwrap().unwrap();
    fixture
        .until("the server has ended it", |sessions| sessions.is_empty())
        .await;
    let error = loop {
        match data.next().await {
            Ok(piece) => assert!(piece.is_some(), "it ended as if that were all"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::TransactionTimeout(_)), "{error}");
    assert_eq!(fixture.names(&pools, 0).await, ["Ada"]);
}

#[tokio::test]
async fn rows_that_came_to_their_end_leave_a_connection_that_is_not_ended() {
    let fixture = Fixture::new().await;
    let pools = fixture.pools(impatient());
    let mut rows = pools
        .stream(&fixture.caller(0), "select pg_backend_pid()", &[])
        .await
        .unwrap();
    let pid: i32 = rows.next().await.unwrap().unwrap().get(0).unwrap();
    assert!(rows.next().await.unwrap().is_none());
    // Once its time would have been over, whoever looks for those that last too long finds nothing here.
    tokio::time::sleep(Duration::from_millis(320)).await;
    pools.shrink();
    let outcome = pools
        .query(&fixture.caller(0), "select pg_backend_pid()", &[])
        .await
        .unwrap();
    assert_eq!(outcome.rows[0].get::<i32>(0).unwrap(), pid);
}
