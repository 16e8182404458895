//! Sessions that an administrator ends, as a move within one database does with all that are from before it.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use tenantry_pool::Error;

use crate::support::{Fixture, small};

const CALLERS: usize = 4;

#[tokio::test(flavor = "multi_thread")]
async fn a_call_whose_session_is_ended_begins_again_and_takes_effect_once() {
    let fixture = Fixture::new().await;
    let pools = fixture.pools(small(CALLERS));
    let done = AtomicBool::new(false);
    let write = async |caller: usize| {
        let mut written = 0_usize;
        while !done.load(Ordering::Relaxed) {
            let id = i64::try_from(1_000_000 * (caller + 1) + written).unwrap();
            // Long enough to be met at work.
            let sql = "with slept as (select pg_sleep(0.003)) insert into contact (id, name) select $1, 'x' from slept";
            pools.query(&fixture.caller(0), sql, &[&id]).await.unwrap();
            written += 1;
        }
        written
    };
    let end = async {
        let admin = fixture.database.connect().await;
        let sql =
            "select count(pg_terminate_backend(pid)) from pg_stat_activity where usename = $1 and state = 'active'";
        let mut ended = 0_i64;
        while ended < 20 {
            let now: i64 = admin.query_one(sql, &[&fixture.database.name()]).await.unwrap().get(0);
            ended += now;
            // Rarely enough that nobody meets three in a row.
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        done.store(true, Ordering::Relaxed);
    };
    let (written, ()) = tokio::join!(futures_util::future::join_all((0..CALLERS).map(write)), end);
    let rows = pools
        .query(
            &fixture.caller(0),
            "select count(*) from contact where id >= 1000000",
            &[],
        )
        .await
        .unwrap();
    let there: i64 = rows.rows[0].get(0).unwrap();
    assert_eq!(usize::try_from(there).unwrap(), written.iter().sum::<usize>());
}

#[tokio::test]
async fn a_statement_that_ends_its_own_session_is_tried_three_times_and_refused() {
    let fixture = Fixture::new().await;
    let pools = fixture.pools(small(1));
    fixture.names(&pools, 0).await;
    let admin = fixture.database.connect().await;
    // A sequence forgets nothing that is rolled back.
    let tries = format!(
        "create sequence app.tries; grant usage on app.tries to {}",
        fixture.database.name()
    );
    admin.batch_execute(&tries).await.unwrap();
    let sql = "select nextval('tries'), pg_terminate_backend(pg_backend_pid())";
    let error = pools.query(&fixture.caller(0), sql, &[]).await.unwrap_err();
    assert!(
        matches!(&error, Error::Statement(error) if error.database().is_some_and(|error| error.code() == "57P01")),
        "{error:?}"
    );
    let tries = admin.query_one("select last_value from app.tries", &[]).await.unwrap();
    assert_eq!(tries.get::<_, i64>(0), 3);
    assert_eq!(fixture.names(&pools, 0).await, ["Ada"]);
}

#[tokio::test]
async fn a_procedure_that_has_committed_is_not_called_again() {
    let fixture = Fixture::new().await;
    let pools = fixture.pools(small(1));
    fixture.names(&pools, 0).await;
    let admin = fixture.database.connect().await;
    let procedure = "create table app.did (what text);
        create procedure app.half() language plpgsql security invoker as $f$ begin
            insert into app.did values ('half');
            commit;
            perform pg_terminate_backend(pg_backend_pid());
        end $f$";
    admin.batch_execute(procedure).await.unwrap();
    let grant = format!("grant insert on app.did to {}", fixture.database.name());
    admin.batch_execute(&grant).await.unwrap();
    let error = pools.query(&fixture.caller(0), "call half()", &[]).await.unwrap_err();
    assert!(
        matches!(&error, Error::Statement(error) if error.database().is_some_and(|error| error.code() == "57P01")),
        "{error:?}"
    );
    let did = admin.query_one("select count(*) from app.did", &[]).await.unwrap();
    assert_eq!(did.get::<_, i64>(0), 1);
}
