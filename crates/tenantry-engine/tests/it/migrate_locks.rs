//! Locks that others hold, and how a migration is out of the application's way meanwhile.

use std::{
    cell::Cell,
    collections::BTreeSet,
    time::{Duration, Instant},
};

use tenantry_engine::migrate::Patience;
use tenantry_testing::{OwnClusterOptions, database_on, own_cluster};
use tokio::time::timeout;

use crate::support::{World, derived, files, tenant};

const ONE: (&str, &str) = ("0001_one.sql", "create table a (id int primary key, n int);");
const OURS: &str = "not granted and pid in (select pid from pg_stat_activity where datname = current_database())";
/// A test whose event never comes fails.
const NEVER: Duration = Duration::from_secs(60);

/// Until somebody has begun so many times to wait for such a lock.
async fn begun_to_wait(world: &World, lock: &str, times: usize) {
    let sql =
        format!("select distinct waitstart::text from pg_locks where waitstart is not null and {lock} and {OURS}");
    let mut begun = BTreeSet::new();
    while begun.len() < times {
        let rows = world.admin.query(&sql, &[]).await.expect("tells its locks");
        begun.extend(rows.iter().map(|row| row.get::<_, String>(0)));
    }
}

#[tokio::test]
async fn a_lock_held_over_several_attempts_keeps_no_reader_waiting() {
    let world = World::new().await;
    world.migrate(&[ONE]).await;
    let all = derived(&files(&[ONE, ("0002_two.sql", "alter table a add column m int;")]))
        .await
        .expect("derives");
    let (holder, applier, reader) = (world.connect().await, world.connect().await, world.connect().await);
    holder
        .batch_execute("begin; lock table app.a in access share mode")
        .await
        .expect("holds");
    let over = Cell::new(false);
    let patience = Patience::default();
    let release = async {
        begun_to_wait(&world, "mode = 'AccessExclusiveLock'", 4).await;
        holder.batch_execute("commit").await.expect("releases");
        over.set(true);
    };
    let read = async {
        let mut longest = Duration::ZERO;
        while !over.get() {
            let asked = Instant::now();
            reader.batch_execute("select count(*) from app.a").await.expect("reads");
            longest = longest.max(asked.elapsed());
        }
        longest
    };
    let applying = world.apply_patiently(&applier, &all, &[], &patience);
    let all_of_it = async { tokio::join!(applying, release, read) };
    let (applied, (), longest) = timeout(NEVER, all_of_it).await.expect("it is tried again");
    assert_eq!(applied.expect("applies").versions, [2]);
    assert!(longest < Duration::from_secs(1), "a reader waited for {longest:?}");
}

#[tokio::test]
async fn an_error_tells_how_often_it_was_tried() {
    let world = World::new().await;
    world.migrate(&[ONE]).await;
    let holder = world.connect().await;
    holder
        .batch_execute("begin; lock table app.a in access share mode")
        .await
        .expect("holds");
    let patience = Patience {
        lock_timeout: Duration::from_millis(20),
        lock_attempts: 2,
        ..Patience::default()
    };
    for text in [
        "alter table a add column m int;",
        "-- tenantry: no transaction\nalter table a add column m int;",
    ] {
        let all = derived(&files(&[ONE, ("0002_two.sql", text)])).await.expect("derives");
        let error = world.apply_patiently(&world.admin, &all, &[], &patience).await;
        let error = error.unwrap_err().to_string();
        assert!(
            error.contains("0002_two.sql") && error.contains("(attempts: 2)"),
            "{text}: {error}"
        );
    }
}

#[tokio::test]
async fn an_index_is_built_beside_a_transaction_that_lasts_longer_than_any_lock_time_out() {
    let world = World::new().await;
    world.migrate(&[ONE]).await;
    let all = derived(&files(&[
        ONE,
        (
            "0002_index.sql",
            "-- tenantry: no transaction\ncreate index concurrently a_n on a (n);",
        ),
    ]))
    .await
    .expect("derives");
    let (report, applier) = (world.connect().await, world.connect().await);
    report
        .batch_execute("begin isolation level repeatable read; select count(*) from app.a")
        .await
        .expect("reads");
    let patience = Patience {
        lock_timeout: Duration::from_millis(20),
        lock_attempts: 1,
        ..Patience::default()
    };
    let long = format!("select count(*) from pg_locks where clock_timestamp() - waitstart > '300 ms' and {OURS}");
    let end = async {
        while world.all(&long).await == "0" {}
        report.batch_execute("commit").await.expect("ends");
    };
    let applying = world.apply_patiently(&applier, &all, &[], &patience);
    let both = async { tokio::join!(applying, end) };
    let (applied, ()) = timeout(NEVER, both).await.expect("it waits");
    assert_eq!(applied.expect("applies").versions, [2]);
    assert_eq!(valid(&world, "a_n").await, "true");
}

async fn valid(world: &World, index: &str) -> String {
    let sql = format!("select indisvalid from pg_index where indexrelid = 'app.{index}'::regclass");
    world.all(&sql).await
}

#[tokio::test]
async fn what_is_left_of_an_index_is_dropped_before_it_is_built_again() {
    let one = (
        "0001_one.sql",
        "create table a (id int primary key);
         create function shaky(n int) returns int language plpgsql immutable as $$ begin return n; end $$;",
    );
    let world = World::new().await;
    world.migrate(&[one]).await;
    world
        .as_tenant(tenant(1), "insert into a (id) values (1)")
        .await
        .expect("fills");
    // The first time it ends as a wait for a lock does.
    world
        .run(
            "create sequence app.tries; grant all on sequence app.tries to public;
             create or replace function app.shaky(n int) returns int language plpgsql immutable as $$
             begin
               if nextval('app.tries') = 1 then
                 raise exception using errcode = '55P03', message = 'a lock was taken';
               end if;
               return n;
             end $$",
        )
        .await;
    let all = derived(&files(&[
        one,
        (
            "0002_index.sql",
            "-- tenantry: no transaction\ncreate index concurrently a_shaky on a (shaky(id));",
        ),
    ]))
    .await
    .expect("derives");
    assert_eq!(world.apply(&all).await.expect("applies").versions, [2]);
    assert_eq!(valid(&world, "a_shaky").await, "true");
    assert_eq!(world.all("select last_value > 1 from app.tries").await, "true");
}

#[tokio::test]
async fn a_tenants_data_is_waited_for() {
    let world = World::new().await;
    world.migrate(&[ONE]).await;
    world
        .as_tenant(tenant(1), "insert into a (id, n) values (1, 1)")
        .await
        .expect("fills");
    let all = derived(&files(&[
        ONE,
        ("0002_data.sql", "-- tenantry: each tenant\nupdate a set n = n + 10;"),
    ]))
    .await
    .expect("derives");
    let (holder, applier) = (world.connect().await, world.connect().await);
    holder
        .batch_execute("begin; update app.a set n = 2")
        .await
        .expect("holds");
    let release = async {
        begun_to_wait(&world, "locktype in ('transactionid', 'tuple')", 3).await;
        holder.batch_execute("commit").await.expect("releases");
    };
    let (tenants, patience) = ([tenant(1)], Patience::default());
    let applying = world.apply_patiently(&applier, &all, &tenants, &patience);
    let both = async { tokio::join!(applying, release) };
    let (applied, ()) = timeout(NEVER, both).await.expect("it is tried again");
    assert_eq!(applied.expect("applies").versions, [2]);
    assert_eq!(world.ask(tenant(1), "select n from a").await, "12");
}

/// PostgreSQL ends an autovacuum only for whoever waits longer than a migration does with the application behind it.
#[tokio::test]
async fn an_autovacuum_makes_way() {
    // Slower than a migration is patient.
    let settings = [
        ("autovacuum", "on"),
        ("autovacuum_naptime", "1s"),
        ("autovacuum_vacuum_cost_delay", "100ms"),
        ("autovacuum_vacuum_cost_limit", "1"),
    ];
    let own = own_cluster(OwnClusterOptions {
        settings: settings
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec(),
        ..OwnClusterOptions::default()
    })
    .await;
    let world = World::of(database_on(own.cluster()).await).await;
    world.migrate(&[ONE]).await;
    world
        .run(
            "insert into app.a (tenant_id, id) select gen_random_uuid(), i from generate_series(1, 100000) i;
             alter table app.a set (autovacuum_vacuum_threshold = 1, autovacuum_vacuum_scale_factor = 0);
             delete from app.a where id % 2 = 0",
        )
        .await;
    let all = derived(&files(&[ONE, ("0002_two.sql", "alter table a add column m int;")]))
        .await
        .expect("derives");
    let vacuums = "select count(*) from pg_stat_progress_vacuum where relid = 'app.a'::regclass";
    let begins = async { while world.all(vacuums).await == "0" {} };
    timeout(NEVER, begins).await.expect("a vacuum begins");
    assert_eq!(world.apply(&all).await.expect("applies").versions, [2]);
}
