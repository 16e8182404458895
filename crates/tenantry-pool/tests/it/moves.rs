//! What the fence says, and what the pool makes of it.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use tenantry_core::TenantDatabaseId;
use tenantry_pool::{Error, LocateError, Pools};
use uuid::Uuid;

use crate::support::{Fixture, small};

/// Makes `enter` refuse with an error of ours until the placement was looked up as often as given.
async fn refuse(fixture: &Fixture, code: &str) {
    let admin = fixture.database.connect().await;
    let sql = format!(
        "create or replace function tenantry.enter(p_msg bytea, p_mac bytea) returns void language plpgsql as
         $f$ begin raise exception using errcode = '{code}', message = 'tenantry: refused'; end $f$"
    );
    admin.batch_execute(&sql).await.unwrap();
}

/// How `enter` was before it refused.
async fn original(fixture: &Fixture) -> String {
    let admin = fixture.database.connect().await;
    let sql = "select pg_get_functiondef('tenantry.enter'::regproc)";
    admin.query_one(sql, &[]).await.unwrap().get(0)
}

async fn error(fixture: &Fixture, pools: &Pools) -> Error {
    pools.query(&fixture.caller(0), "select 1", &[]).await.unwrap_err()
}

#[tokio::test]
async fn an_outdated_placement_is_looked_up_again_once() {
    let fixture = Fixture::new().await;
    let pools = fixture.pools(small(1));
    refuse(&fixture, "TN001").await;
    assert!(matches!(error(&fixture, &pools).await, Error::Moving));
    assert_eq!(fixture.source.asked.load(Ordering::Relaxed), 2);
    let mut transaction = pools.begin(fixture.caller(0).into()).await.unwrap();
    assert!(matches!(transaction.query("select 1", &[]).await, Err(Error::Moving)));
}

#[tokio::test]
async fn a_suspended_tenant_is_refused_without_another_try() {
    let fixture = Fixture::new().await;
    let pools = fixture.pools(small(1));
    refuse(&fixture, "TN002").await;
    assert!(matches!(
        error(&fixture, &pools).await,
        Error::Locate(LocateError::Suspended)
    ));
    assert_eq!(fixture.source.asked.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_call_waits_for_a_short_move() {
    let fixture = Fixture::new().await;
    let pools = fixture.pools(small(1));
    let original = original(&fixture).await;
    refuse(&fixture, "TN003").await;
    let (names, ()) = tokio::join!(fixture.names(&pools, 0), async {
        while fixture.source.asked.load(Ordering::Relaxed) < 3 {
            tokio::task::yield_now().await;
        }
        fixture.database.connect().await.batch_execute(&original).await.unwrap();
    });
    assert_eq!(names, ["Ada"]);
}

/// Each that asks is a look into the catalog, and one into a home.
#[tokio::test]
async fn calls_that_wait_for_a_move_ask_one_after_another_and_go_on_together() {
    const CALLS: usize = 40;
    let fixture = Fixture::new().await;
    let pools = fixture.pools(small(4));
    let original = original(&fixture).await;
    refuse(&fixture, "TN003").await;
    let began = Instant::now();
    let calls = join_all((0..CALLS).map(|_| fixture.names(&pools, 0)));
    let (names, asked) = tokio::join!(calls, async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let asked = fixture.source.asked.load(Ordering::Relaxed);
        fixture.database.connect().await.batch_execute(&original).await.unwrap();
        (asked, began.elapsed())
    });
    assert!(names.iter().all(|names| *names == ["Ada"]), "{names:?}");
    let (asked, waited) = asked;
    // Once each, and then one of them every ten milliseconds.
    let most = CALLS + (waited.as_millis() / 10) as usize + 1;
    assert!((3..=most).contains(&asked), "{asked} of at most {most}");
}

/// They come all at once, to a database to which this process has no connection yet.
#[tokio::test]
async fn a_connection_is_open_where_the_tenant_goes_before_it_is_there() {
    let (fixture, elsewhere) = (Fixture::new().await, Fixture::new().await);
    let pools = fixture.pools(small(4));
    let mut there = elsewhere.source.home.lock().clone();
    there.placement.database = TenantDatabaseId::from_uuid(Uuid::from_u128(3));
    *fixture.source.destination.lock() = Some(there.clone());
    refuse(&fixture, "TN003").await;
    let arrives = async {
        elsewhere
            .until(
                "one is open there",
                |sessions| matches!(sessions, [(_, state, false)] if state == "idle"),
            )
            .await;
        let (pid, ..) = elsewhere.sessions().await.remove(0);
        *fixture.source.home.lock() = there;
        pools.invalidate(fixture.tenants[0]).await;
        pid
    };
    let caller = fixture.caller(0);
    let call = pools.query(&caller, "select pg_backend_pid()", &[]);
    let (outcome, pid) = tokio::join!(call, arrives);
    // The old home refuses still.
    assert_eq!(outcome.unwrap().rows[0].get::<i32>(0).unwrap(), pid);
}

#[tokio::test]
async fn a_transaction_begins_again_at_the_new_home() {
    let fixture = Fixture::new().await;
    let elsewhere = Fixture::new().await;
    let pools = fixture.pools(small(1));
    fixture.names(&pools, 0).await;
    refuse(&fixture, "TN001").await;
    let moved = elsewhere.source.home.lock().clone();
    let mut transaction = pools.begin(fixture.caller(1).into()).await.unwrap();
    *fixture.source.home.lock() = moved;
    let sql = "insert into contact (id, name) values (9, 'Moved')";
    transaction.query(sql, &[]).await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(elsewhere.names(&elsewhere.pools(small(1)), 1).await, ["Bob", "Moved"]);
}

/// Its connection goes to the next caller, whose write would never be committed.
#[tokio::test]
async fn a_transaction_of_which_nothing_was_sent_is_not_opened_by_the_next_call() {
    let fixture = Fixture::new().await;
    let pools = fixture.pools(small(1));
    drop(pools.begin(fixture.caller(0).into()).await.unwrap());
    let sql = "insert into contact (id, name) values (9, 'Kept')";
    pools.query(&fixture.caller(0), sql, &[]).await.unwrap();
    let elsewhere = fixture.pools(small(1));
    assert_eq!(fixture.names(&elsewhere, 0).await.len(), 2);
}
