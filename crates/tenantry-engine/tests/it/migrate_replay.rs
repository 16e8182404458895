//! What is pending, in one message.

use tenantry_engine::{
    isolate::Derived,
    migrate::{Patience, Replayed, prepare_replay, replay, settle},
};

use crate::support::{World, derived, files};

const ONE: (&str, &str) = ("0001_one.sql", "create table a (id int primary key);");
const TWO: (&str, &str) = (
    "0002_two.sql",
    "alter table a add column n int;\ncreate index on a (n);",
);
const THREE: (&str, &str) = (
    "0003_three.sql",
    "create table b (id int primary key, a_id int references a);",
);
const LEDGER: &str = "select string_agg(version || ' ' || name, ',' order by version) from tenantry_private.migration";

async fn of(sql: &[(&str, &str)]) -> Derived {
    derived(&files(sql)).await.expect("derives")
}

async fn replayed(world: &World, all: &Derived, had: usize) -> Replayed {
    let patience = Patience {
        lock_timeout: std::time::Duration::from_millis(200),
        ..Patience::default()
    };
    let prepared = "select from pg_prepared_statements where name = 'tenantry_note'";
    if world.admin.query_opt(prepared, &[]).await.unwrap().is_none() {
        prepare_replay(&world.admin).await.unwrap();
    }
    replay(&world.admin, &world.target("app"), all, had, &patience)
        .await
        .expect("the connection holds")
}

#[tokio::test]
async fn two_versions_go_in_one_message_and_are_as_if_applied() {
    let (fast, slow) = (World::new().await, World::new().await);
    let all = of(&[ONE, TWO, THREE]).await;
    fast.migrate(&[ONE]).await;
    assert_eq!(replayed(&fast, &all, 1).await, Replayed::Applied);
    slow.apply(&all).await.expect("applies");
    for question in [
        LEDGER,
        "select string_agg(indexdef, ';' order by indexdef) from pg_indexes where schemaname = 'app'",
        "select string_agg(conname || pg_get_constraintdef(oid), ';' order by conname) from pg_constraint where connamespace = 'app'::regnamespace",
        "select string_agg(tablename || policyname || coalesce(qual, '') || coalesce(with_check, ''), ';' order by tablename, policyname) from pg_policies where schemaname = 'app'",
        "select string_agg(relname || relforcerowsecurity || (relowner::regrole::text like '%owner'), ';' order by relname) from pg_class where relnamespace = 'app'::regnamespace",
    ] {
        assert_eq!(fast.all(question).await, slow.all(question).await, "{question}");
    }
    // What is left is nothing: neither a role, nor a setting, nor a lock.
    assert_eq!(
        fast.all("select current_user = session_user and current_setting('search_path') !~ 'app'")
            .await,
        "true"
    );
    assert_eq!(
        fast.all("select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()")
            .await,
        "0"
    );
}

/// Many number their files by the time, for which four bytes are too few.
#[tokio::test]
async fn a_file_that_is_numbered_by_its_time_goes_in_one_message_too() {
    let world = World::new().await;
    let all = of(&[ONE, ("20260115093000_two.sql", TWO.1)]).await;
    world.migrate(&[ONE]).await;
    assert_eq!(replayed(&world, &all, 1).await, Replayed::Applied);
    assert_eq!(
        world.all(LEDGER).await,
        "1 0001_one.sql,20260115093000 20260115093000_two.sql"
    );
    assert!(settle(&world.admin, "app", 20_260_115_093_000).await.unwrap());
}

#[tokio::test]
async fn the_ledger_tells_how_long_a_file_took_whichever_way_it_went() {
    let slow = (
        "0002_slow.sql",
        "-- tenantry: reference\ncreate table seen (id int primary key);\ninsert into seen select 1 from pg_sleep(0.2);",
    );
    let all = of(&[ONE, slow]).await;
    for in_one_message in [true, false] {
        let world = World::new().await;
        world.migrate(&[ONE]).await;
        if in_one_message {
            assert_eq!(replayed(&world, &all, 1).await, Replayed::Applied);
        } else {
            world.apply(&all).await.expect("applies");
        }
        let took = "select duration_ms >= 200 from tenantry_private.migration where version = 2";
        assert_eq!(world.all(took).await, "true", "in one message: {in_one_message}");
    }
}

#[tokio::test]
async fn settling_tells_whether_a_version_is_there() {
    let world = World::new().await;
    let all = of(&[ONE, TWO]).await;
    world.migrate(&[ONE]).await;
    assert!(!settle(&world.admin, "app", 2).await.unwrap());
    assert_eq!(replayed(&world, &all, 1).await, Replayed::Applied);
    let before = world.all(LEDGER).await;
    assert!(settle(&world.admin, "app", 2).await.unwrap());
    assert!(!settle(&world.admin, "other", 2).await.unwrap());
    assert_eq!(world.all(LEDGER).await, before);
}

#[tokio::test]
async fn a_ledger_that_is_not_as_expected_stays_as_it_is() {
    let world = World::new().await;
    let all = of(&[ONE, TWO, THREE]).await;
    world.migrate(&[ONE, TWO]).await;
    let before = world.all(LEDGER).await;
    // Another run was faster; the catalog was never right; nothing is there at all.
    for had in [1, 0, 4] {
        assert_eq!(replayed(&world, &all, had).await, Replayed::NotThisWay, "{had}");
        assert_eq!(world.all(LEDGER).await, before);
        assert_eq!(world.all("select to_regclass('app.b') is null").await, "true");
    }
    let edited = of(&[(ONE.0, "create table a (id int primary key, x int);"), TWO, THREE]).await;
    assert_eq!(replayed(&world, &edited, 2).await, Replayed::NotThisWay);
    assert_eq!(world.all(LEDGER).await, before);
    assert_eq!(replayed(&world, &all, 2).await, Replayed::Applied);
}

#[tokio::test]
async fn a_version_that_fails_leaves_nothing_and_those_before_it_hold() {
    let world = World::new().await;
    world.migrate(&[ONE]).await;
    world.run("create table app.b (id int)").await;
    let all = of(&[ONE, TWO, THREE]).await;
    assert_eq!(replayed(&world, &all, 1).await, Replayed::NotThisWay);
    assert_eq!(world.all(LEDGER).await, "1 0001_one.sql,2 0002_two.sql");
    let error = world.apply(&all).await.expect_err("b is there").to_string();
    assert!(error.contains("0003_three.sql:1"), "{error}");
}

#[tokio::test]
async fn a_lock_that_is_taken_is_not_waited_for_by_the_message() {
    let world = World::new().await;
    world.migrate(&[ONE]).await;
    let all = of(&[ONE, TWO]).await;
    let holder = world.connect().await;
    holder
        .batch_execute("begin; lock table app.a in access exclusive mode")
        .await
        .expect("locks");
    assert_eq!(replayed(&world, &all, 1).await, Replayed::NotThisWay);
    holder.batch_execute("rollback").await.expect("lets go");
    assert_eq!(replayed(&world, &all, 1).await, Replayed::Applied);
}

#[tokio::test]
async fn what_needs_more_than_a_transaction_goes_step_by_step() {
    let world = World::new().await;
    world.migrate(&[ONE]).await;
    for more in [
        ("0002_data.sql", "-- tenantry: each tenant\nupdate a set id = id;"),
        (
            "0002_alone.sql",
            "-- tenantry: no transaction\ncreate index concurrently on a (id);",
        ),
        ("0002_extension.sql", "create extension if not exists citext;"),
    ] {
        let all = of(&[ONE, more]).await;
        assert_eq!(replayed(&world, &all, 1).await, Replayed::NotThisWay, "{}", more.0);
    }
    assert_eq!(world.all(LEDGER).await, "1 0001_one.sql");
}

#[tokio::test]
async fn what_is_left_noted_of_a_version_that_has_ended_is_in_nobodys_way() {
    let world = World::new().await;
    world.migrate(&[ONE]).await;
    world
        .run("insert into tenantry_private.migration_step (schema, version, done) values ('app', 1, 1)")
        .await;
    let all = of(&[ONE, TWO]).await;
    assert_eq!(replayed(&world, &all, 1).await, Replayed::Applied);
}

#[tokio::test]
async fn a_version_that_is_half_applied_is_not_taken_for_a_new_one() {
    let world = World::new().await;
    world.migrate(&[ONE]).await;
    let steps = (
        "0002_two.sql",
        "-- tenantry: no transaction\nalter table a add column n int;\nalter table a add check (id > 0);",
    );
    world
        .run("insert into app.a (tenant_id, id) values (gen_random_uuid(), 0)")
        .await;
    let error = world.apply(&of(&[ONE, steps]).await).await.unwrap_err().to_string();
    assert!(error.starts_with("0002_two.sql:3: "), "{error}");
    let edited = of(&[ONE, ("0002_two.sql", "alter table a add column m int;")]).await;
    assert_eq!(replayed(&world, &edited, 1).await, Replayed::NotThisWay);
    let error = world.apply(&edited).await.unwrap_err().to_string();
    assert!(error.contains("undo the change"), "{error}");
    assert_eq!(world.all(LEDGER).await, "1 0001_one.sql");
}
