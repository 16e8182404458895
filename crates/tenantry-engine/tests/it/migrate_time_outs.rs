//! How long a file's statements wait and run, as it says itself.

use tenantry_engine::migrate::{Patience, Replayed, prepare_replay, replay};

use crate::support::{World, derived, files, refused, steps, tenant};

const ONE: (&str, &str) = (
    "0001_one.sql",
    "-- tenantry: reference seen
     create table seen (how text, lock text, statement text);
     create table own (how text, lock text, statement text);",
);
const WHOLE: (&str, &str) = (
    "0002_whole.sql",
    "-- tenantry: reference
     -- tenantry: lock timeout 700ms
     -- tenantry: statement timeout 5min
     insert into seen values ('whole', current_setting('lock_timeout'), current_setting('statement_timeout'));",
);

async fn seen(world: &World, table: &str, how: &str) -> String {
    let sql = format!("select lock || ' ' || statement from app.{table} where how = '{how}'");
    world.all(&sql).await
}

#[tokio::test]
async fn a_files_time_outs_hold_for_it_and_for_no_other() {
    let world = World::new().await;
    world.migrate(&[ONE]).await;
    // What the administrator happens to have counts for none.
    world
        .run(
            "do $$ begin
               execute format('alter database %I set statement_timeout = ''7s''', current_database());
               execute format('alter database %I set lock_timeout = ''9s''', current_database());
             end $$",
        )
        .await;
    let all = derived(&files(&[
        ONE,
        WHOLE,
        (
            "0003_steps.sql",
            "-- tenantry: reference
             -- tenantry: no transaction
             -- tenantry: lock timeout 800ms
             insert into seen values ('steps', current_setting('lock_timeout'), current_setting('statement_timeout'));",
        ),
        (
            "0004_each.sql",
            "-- tenantry: each tenant
             -- tenantry: statement timeout 6s
             insert into own (how, lock, statement)
             values ('each', current_setting('lock_timeout'), current_setting('statement_timeout'));",
        ),
        (
            "0005_none.sql",
            "-- tenantry: reference
             insert into seen values ('none', current_setting('lock_timeout'), current_setting('statement_timeout'));",
        ),
    ]))
    .await
    .unwrap_or_else(|error| panic!("{error}"));
    let (applier, tenants, patience) = (world.connect().await, [tenant(1)], Patience::default());
    world
        .apply_patiently(&applier, &all, &tenants, &patience)
        .await
        .expect("applies");
    let usual = format!("{}ms", patience.lock_timeout.as_millis());
    assert_eq!(seen(&world, "seen", "whole").await, "700ms 5min");
    assert_eq!(seen(&world, "seen", "steps").await, "800ms 0");
    assert_eq!(seen(&world, "own", "each").await, format!("{usual} 6s"));
    assert_eq!(seen(&world, "seen", "none").await, format!("{usual} 0"));
    let left = "select current_setting('lock_timeout') || ' ' || current_setting('statement_timeout')";
    let left: String = applier.query_one(left, &[]).await.expect("answers").get(0);
    assert_eq!(left, "9s 7s", "the session is as it was");
}

#[tokio::test]
async fn a_files_time_outs_hold_in_one_message_too() {
    let world = World::new().await;
    world.migrate(&[ONE]).await;
    let all = derived(&files(&[ONE, WHOLE])).await.expect("derives");
    prepare_replay(&world.admin).await.expect("prepares");
    let replayed = replay(&world.admin, &world.target("app"), &all, 1, &Patience::default()).await;
    assert_eq!(replayed.expect("the connection holds"), Replayed::Applied);
    assert_eq!(seen(&world, "seen", "whole").await, "700ms 5min");
}

#[tokio::test]
async fn a_statement_that_takes_longer_fails_with_its_line() {
    let world = World::new().await;
    world.migrate(&[ONE]).await;
    let slow =
        "-- tenantry: reference\n-- tenantry: statement timeout 50ms\ninsert into seen select pg_sleep(0.2)::text;";
    let all = derived(&files(&[ONE, ("0002_slow.sql", slow)])).await.expect("derives");
    let error = world.apply(&all).await.unwrap_err().to_string();
    assert!(
        error.starts_with("0002_slow.sql:3: ") && error.contains("statement timeout"),
        "{error}"
    );
}

#[tokio::test]
async fn a_time_out_that_is_set_is_refused_with_the_header_that_declares_it() {
    for (sql, header) in [
        ("set lock_timeout = '5s';", "lock timeout"),
        ("set local lock_timeout to 100;", "lock timeout"),
        ("set session statement_timeout = '5 min';", "statement timeout"),
        ("set local statement_timeout = 10;", "statement timeout"),
        (
            "-- tenantry: each tenant\nset statement_timeout = 0;",
            "statement timeout",
        ),
    ] {
        let refusals = refused(sql).await;
        let expected = format!("-- tenantry: {header} ");
        assert!(refusals[0].mend.contains(&expected), "{sql}: {refusals:?}");
    }
    // The head of a dump.
    steps("set statement_timeout = 0;\nSET lock_timeout=0;\nset lock_timeout to default;\ncreate table a (id int);")
        .await;
}
