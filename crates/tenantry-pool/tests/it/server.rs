//! What the databases of one server share: places, turns, and the tenants' limits.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use tenantry_pool::{Error, PoolConfig, Pools};

use crate::{
    fleet::Fleet,
    support::{Fixture, small},
};

fn shared(connections: usize) -> PoolConfig {
    PoolConfig {
        server_connections_max: connections,
        ..small(4)
    }
}

async fn ask(pools: &Pools, database: usize) -> Result<(), Error> {
    let caller = Fleet::caller(database);
    pools.query(&caller, "select name from contact", &[]).await.map(|_| ())
}

#[tokio::test]
async fn databases_share_the_servers_connections_and_never_have_more() {
    let fleet = Fleet::new(6).await;
    let watch = fleet.watch().await;
    let pools = Pools::new(fleet.source.clone(), shared(2));
    // One after the other, then all at once.
    for database in (0..6).chain(0..6) {
        ask(&pools, database).await.unwrap();
    }
    let calls = (0..60).map(|n| ask(&pools, n % 6));
    for result in futures_util::future::join_all(calls).await {
        result.unwrap();
    }
    let status = pools.server_status()[0].1;
    assert!(
        status.open <= 2 && status.waiting == 0 && status.share == 2,
        "{status:?}"
    );
    let (most, different, looks) = watch.end().await;
    assert_eq!(most, 2, "in {looks} looks");
    assert!(different >= 6, "each database had one: {different}");
}

#[tokio::test]
async fn the_least_used_connection_goes_first_and_a_busy_database_keeps_its_own() {
    let fleet = Fleet::new(5).await;
    let pools = Pools::new(fleet.source.clone(), shared(3));
    let open = |pools: &Pools| -> Vec<usize> {
        let mut open: Vec<_> = pools
            .status()
            .into_iter()
            .map(|(id, status)| (id.as_uuid().as_u128(), status.open))
            .collect();
        open.sort_unstable();
        open.into_iter().map(|(_, open)| open).collect()
    };
    // 0 and 1 are in use all the time, 2 was used once.
    for _ in 0..20 {
        ask(&pools, 0).await.unwrap();
        ask(&pools, 1).await.unwrap();
    }
    ask(&pools, 2).await.unwrap();
    for stray in [3, 4, 2, 3, 4] {
        ask(&pools, stray).await.unwrap();
        // Though the strays were used more recently.
        assert_eq!(open(&pools)[..2], [1, 1], "after {stray}");
    }
    assert_eq!(open(&pools).iter().sum::<usize>(), 3);
}

#[tokio::test]
async fn who_waits_for_a_place_gets_one_from_databases_that_are_never_idle() {
    let fleet = Fleet::new(3).await;
    let pools = Pools::new(fleet.source.clone(), shared(2));
    let until = Instant::now() + Duration::from_secs(3);
    // Two databases whose callers leave no connection idle for a moment.
    let busy: Vec<_> = (0..12)
        .map(|n| {
            let pools = pools.clone();
            tokio::spawn(async move {
                while Instant::now() < until {
                    let caller = Fleet::caller(n % 2);
                    pools.query(&caller, "select pg_sleep(0.002)", &[]).await.unwrap();
                }
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut longest = Duration::ZERO;
    for _ in 0..5 {
        let since = Instant::now();
        ask(&pools, 2).await.unwrap();
        longest = longest.max(since.elapsed());
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    for task in busy {
        task.await.unwrap();
    }
    assert!(longest < Duration::from_secs(2), "{longest:?}");
}

/// In small what a benchmark measures: most calls go to as many databases as there are connections, a few to the others.
#[tokio::test]
async fn stray_calls_to_many_databases_do_not_take_the_busy_ones_connections_away() {
    const BUSY: usize = 6;
    const CALLS: usize = 3000;
    let fleet = Fleet::new(18).await;
    let watch = fleet.watch().await;
    // Who is refused on a slow machine is another test's matter.
    let config = PoolConfig {
        waiting_max: CALLS,
        tenant_waiting_max: CALLS,
        wait_timeout: Duration::from_secs(60),
        ..shared(BUSY)
    };
    let pools = Pools::new(fleet.source.clone(), config);
    for database in 0..BUSY {
        ask(&pools, database).await.unwrap();
    }
    let before = watch.seen.pids.lock().len();
    let start = Instant::now();
    let mut calls = Vec::new();
    let mut strays = 0;
    for n in 0..CALLS {
        let at = start + Duration::from_micros(n as u64 * 1500);
        tokio::time::sleep_until(at.into()).await;
        // Every two hundredth to one of the others.
        let stray = n % 200 == 199;
        strays += usize::from(stray);
        let database = match stray {
            true => BUSY + n / 200 % (18 - BUSY),
            false => n * 7 % BUSY,
        };
        let pools = pools.clone();
        calls.push(tokio::spawn(async move { ask(&pools, database).await }));
    }
    for call in calls {
        call.await.unwrap().unwrap();
    }
    let (most, different, looks) = watch.end().await;
    assert!(most <= BUSY, "{most} in {looks} looks");
    // Each stray call opens one, and takes one away that is opened again: hardly more.
    let opened = different - before;
    assert!(
        opened >= strays && opened <= 4 * strays,
        "{opened} opened for {strays} stray calls"
    );
}

#[tokio::test]
async fn a_tenants_own_queue_is_bounded_and_so_is_what_it_has_beside_others() {
    let fixture = Fixture::new().await;
    let pools = fixture.pools(PoolConfig {
        tenant_connections_max: 1,
        tenant_waiting_max: 3,
        wait_timeout: Duration::from_millis(700),
        ..small(4)
    });
    // Both are there: each may have one.
    fixture.names(&pools, 0).await;
    fixture.names(&pools, 1).await;
    let mut holder = pools.begin(fixture.caller(0).into()).await.unwrap();
    holder.query("select 1", &[]).await.unwrap();
    let asked = Instant::now();
    let calls = (0..5).map(|_| async { pools.query(&fixture.caller(0), "select 1", &[]).await.map(|_| ()) });
    let (results, other) = tokio::join!(futures_util::future::join_all(calls), async {
        for _ in 0..20 {
            fixture.names(&pools, 1).await;
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        asked.elapsed()
    });
    let full = results
        .iter()
        .filter(|result| matches!(result, Err(Error::TenantFull(3))))
        .count();
    let busy = results
        .iter()
        .filter(|result| matches!(result, Err(Error::TenantBusy(_))))
        .count();
    assert_eq!((full, busy), (2, 3), "{results:?}");
    assert!(other < Duration::from_millis(1500), "{other:?}");
    holder.commit().await.unwrap();
    fixture.names(&pools, 0).await;
}

/// Bounds are generous: what is shown is that the one does not wait behind the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_that_sends_ten_times_its_share_slows_another_little() {
    async fn p90(fixture: &Fixture, pools: &Pools) -> Duration {
        let caller = fixture.caller(1);
        let mut times = Vec::new();
        for _ in 0..150 {
            let since = Instant::now();
            pools.query(&caller, "select pg_sleep(0.005)", &[]).await.unwrap();
            times.push(since.elapsed());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        times.sort_unstable();
        times[times.len() * 9 / 10]
    }
    let fixture = Fixture::new().await;
    let pools = fixture.pools(PoolConfig {
        tenant_connections_max: 2,
        tenant_waiting_max: 64,
        ..small(4)
    });
    fixture.names(&pools, 0).await;
    let alone = p90(&fixture, &pools).await;
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let flood: Vec<_> = (0..40)
        .map(|_| {
            let (pools, caller, stop) = (pools.clone(), fixture.caller(0), stop.clone());
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let _ = pools.query(&caller, "select pg_sleep(0.02)", &[]).await;
                }
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let beside = p90(&fixture, &pools).await;
    stop.store(true, Ordering::Relaxed);
    for task in flood {
        task.await.unwrap();
    }
    // Behind the other's calls it would wait for a multiple of 20 ms.
    assert!(
        beside < alone * 2 + Duration::from_millis(5),
        "{beside:?} beside it, {alone:?} alone"
    );
}

#[tokio::test]
async fn a_transaction_that_lasts_too_long_is_ended_and_its_place_is_free() {
    let fixture = Fixture::new().await;
    let pools = fixture.pools(PoolConfig {
        transaction_timeout: Duration::from_millis(300),
        ..small(1)
    });
    let _task = pools.spawn_shrinking();
    let mut held = pools.begin(fixture.caller(0).into()).await.unwrap();
    held.query("insert into contact (id, name) values (7, 'late')", &[])
        .await
        .unwrap();
    // The caller does nothing, and holds on.
    fixture
        .until("the server has ended it", |sessions| sessions.is_empty())
        .await;
    let error = held.query("select 1", &[]).await.unwrap_err();
    assert!(matches!(error, Error::TransactionTimeout(_)), "{error}");
    drop(held);
    assert_eq!(fixture.names(&pools, 0).await, ["Ada"]);

    // A statement in one is stopped on the server too.
    let mut held = pools.begin(fixture.caller(0).into()).await.unwrap();
    let error = held.query("select pg_sleep(60)", &[]).await.unwrap_err();
    assert!(matches!(error, Error::TransactionTimeout(_)), "{error}");
    drop(held);
    fixture.until("nothing runs", |sessions| sessions.is_empty()).await;
}

#[tokio::test]
async fn a_connection_that_has_touched_many_tables_is_replaced() {
    let fixture = Fixture::new().await;
    let pools = fixture.pools(PoolConfig {
        touched_tables_max: 20,
        tables_per_schema: 10,
        ..small(1)
    });
    let mut pids = Vec::new();
    for schema in 0..5 {
        let schema = format!("s_{schema}");
        let admin = fixture.database.connect().await;
        let role = fixture.database.name();
        let sql = format!("create schema {schema}; grant usage on schema {schema} to {role}");
        admin.batch_execute(&sql).await.unwrap();
        fixture.source.home.lock().placement.schema = schema;
        pools.invalidate_all();
        for _ in 0..3 {
            let outcome = pools
                .query(&fixture.caller(0), "select pg_backend_pid()", &[])
                .await
                .unwrap();
            pids.push(outcome.rows[0].get::<i32>(0).unwrap());
        }
    }
    // Three schemas are more than twenty tables: after the first call for the third it goes.
    assert!(pids[..7].iter().all(|pid| *pid == pids[0]), "{pids:?}");
    assert_ne!(pids[7], pids[6], "{pids:?}");
    assert!(pids[7..13].iter().all(|pid| *pid == pids[7]), "{pids:?}");
    assert_ne!(pids[13], pids[12], "{pids:?}");
}

#[tokio::test]
async fn a_password_that_changed_is_read_again_and_one_that_is_wrong_is_an_error() {
    let fixture = Fixture::new().await;
    let pools = fixture.pools(small(2));
    assert_eq!(fixture.names(&pools, 0).await, ["Ada"]);
    let admin = fixture.database.connect().await;
    let role = fixture.database.name();
    let change = async |password: &str| {
        let sql = format!(
            "alter role {role} password '{password}';
             select pg_terminate_backend(pid, 5000) from pg_stat_activity where usename = '{role}'"
        );
        admin.batch_execute(&sql).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    change("new secret").await;
    {
        let mut home = fixture.source.home.lock();
        let mut endpoint = (*home.endpoint).clone();
        endpoint.password = "new secret".to_owned().into();
        home.endpoint = Arc::new(endpoint);
    }
    // Nobody has told the pool: being refused is reason enough to ask.
    let asked = fixture.source.asked.load(Ordering::Relaxed);
    let calls = (0..8).map(|_| fixture.names(&pools, 1));
    for names in futures_util::future::join_all(calls).await {
        assert_eq!(names, ["Bob"]);
    }
    assert!(fixture.source.asked.load(Ordering::Relaxed) > asked);

    change("nobody knows").await;
    let asked = fixture.source.asked.load(Ordering::Relaxed);
    for _ in 0..10 {
        let error = pools.query(&fixture.caller(0), "select 1", &[]).await.unwrap_err();
        assert!(matches!(&error, Error::Connect(_)), "{error}");
        assert_eq!(error.database().unwrap().code(), "28P01");
    }
    let asked = fixture.source.asked.load(Ordering::Relaxed) - asked;
    assert!(asked <= 6, "the source is not asked for each refused call: {asked}");
}

#[tokio::test]
async fn a_server_that_moved_gets_new_connections_and_the_old_ones_drain() {
    let fixture = Fixture::new().await;
    let elsewhere = Fixture::new().await;
    let pools = fixture.pools(small(2));
    fixture.names(&pools, 0).await;
    let mut held = pools.begin(fixture.caller(0).into()).await.unwrap();
    held.query("select 1", &[]).await.unwrap();
    fixture.names(&pools, 1).await;
    let moved = elsewhere.source.home.lock().clone();
    *fixture.source.home.lock() = moved;
    pools.invalidate_all();
    assert_eq!(elsewhere.names(&pools, 1).await, ["Bob"]);
    fixture
        .until("the idle ones are closed, the one in use stays", |sessions| {
            sessions.len() == 1
        })
        .await;
    held.query("select name from contact", &[]).await.unwrap();
    held.commit().await.unwrap();
    fixture
        .until("the last one is closed too", |sessions| sessions.is_empty())
        .await;
    assert_eq!(pools.server_status()[0].1.open, 1);
}
