//! Dropping a call at each of its awaits.

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tenantry_pool::Pools;

use crate::support::{Fixture, small};

/// Polls a future at most `polls` times and drops it then; whether it ended by itself.
async fn dropped_after<F: Future>(polls: usize, future: F) -> bool {
    struct Counted<F> {
        future: F,
        left: usize,
    }
    impl<F: Future + Unpin> Future for Counted<F> {
        type Output = bool;
        fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<bool> {
            if self.left == 0 {
                return Poll::Ready(false);
            }
            self.left -= 1;
            if Pin::new(&mut self.future).poll(cx).is_ready() {
                return Poll::Ready(true);
            }
            match self.left {
                0 => Poll::Ready(false),
                _ => Poll::Pending,
            }
        }
    }
    let future = pin!(future);
    Counted { future, left: polls }.await
}

/// After a call was dropped, the next borrower finds nothing of it, and the server no open transaction.
async fn nothing_is_left(fixture: &Fixture, pools: &Pools, tenant: usize) {
    let other = 1 - tenant;
    let outcome = pools
        .query(&fixture.caller(other), "select name from contact where id = 1", &[])
        .await
        .unwrap();
    assert_eq!(outcome.rows.len(), 1);
    assert_eq!(outcome.rows[0].get::<&str>(0).unwrap(), ["Ada", "Bob"][other]);
    fixture
        .until("no transaction is left open", |sessions| {
            sessions.iter().all(|(_, state, open)| state == "idle" && !open)
        })
        .await;
}

async fn at_every_await<F, W>(fixture: &Fixture, pools: &Pools, work: W)
where
    F: Future,
    W: Fn(usize) -> F,
{
    let mut ended = 0;
    for polls in 1..200 {
        if dropped_after(polls, work(polls)).await {
            ended += 1;
        }
        nothing_is_left(fixture, pools, 0).await;
        // The number of polls varies with the weather; a few ends in a row are the end.
        if ended == 3 {
            return;
        }
    }
    panic!("the work never came to its end");
}

#[tokio::test]
async fn a_query_dropped_at_any_await_leaves_nothing() {
    let fixture = Fixture::new().await;
    let pools = fixture.pools(small(1));
    at_every_await(&fixture, &pools, |n| {
        let (pools, caller) = (pools.clone(), fixture.caller(0));
        // A new text each time, so that preparing is dropped too.
        async move {
            let sql = format!("select name, {n} from contact where id = $1");
            pools.query(&caller, &sql, &[&1_i64]).await.unwrap();
            pools.query(&caller, &sql, &[&1_i64]).await.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn a_transaction_dropped_at_any_await_leaves_nothing() {
    let fixture = Fixture::new().await;
    let pools = fixture.pools(small(1));
    at_every_await(&fixture, &pools, |n| {
        let (pools, caller) = (pools.clone(), Arc::new(fixture.caller(0)));
        async move {
            let mut transaction = pools.begin(caller).await.unwrap();
            let sql = "insert into contact (id, name) values ($1, 'dropped')";
            transaction.query(sql, &[&(n as i64 + 100)]).await.unwrap();
            transaction.savepoint().await.unwrap();
            transaction
                .query("select 1 / (id - 1) from contact where id = 1", &[])
                .await
                .unwrap_err();
            transaction.undo().await.unwrap();
            transaction.rollback().await.unwrap();
        }
    })
    .await;
    assert_eq!(fixture.names(&pools, 0).await, ["Ada"]);
}

#[tokio::test]
async fn a_stream_dropped_at_any_row_leaves_nothing() {
    let fixture = Fixture::new().await;
    let pools = fixture.pools(small(1));
    at_every_await(&fixture, &pools, |_| {
        let (pools, caller) = (pools.clone(), fixture.caller(0));
        async move {
            let sql = "select n from contact, generate_series(1, 20000) n";
            let mut rows = pools.stream(&caller, sql, &[]).await.unwrap();
            while rows.next().await.unwrap().is_some() {}
        }
    })
    .await;
}

#[tokio::test]
async fn a_dropped_statement_is_stopped_on_the_server() {
    let fixture = Fixture::new().await;
    let pools = fixture.pools(small(1));
    let caller = fixture.caller(0);
    let call = pools.query(&caller, "select pg_sleep(60)", &[]);
    assert!(tokio::time::timeout(Duration::from_millis(200), call).await.is_err());
    fixture
        .until("the statement was stopped", |sessions| sessions.is_empty())
        .await;
    assert_eq!(fixture.names(&pools, 1).await, ["Bob"]);
}

#[tokio::test]
async fn a_caller_that_gives_up_waiting_loses_no_connection() {
    let fixture = Fixture::new().await;
    let pools = fixture.pools(small(1));
    for polls in 1..12 {
        let mut holder = pools.begin(fixture.caller(0).into()).await.unwrap();
        holder.query("select 1", &[]).await.unwrap();
        // The connection comes back while the caller waits, or when it has just gone.
        let (_, committed) = tokio::join!(dropped_after(polls, fixture.names(&pools, 1)), holder.commit());
        committed.unwrap();
        assert_eq!(fixture.names(&pools, 1).await, ["Bob"]);
    }
    assert_eq!(pools.status()[0].1.open, 1);
}
