//! What was applied is known, and what is applied twice changes nothing.

use crate::support::{World, derived, files};

const ONE: (&str, &str) = ("0001_one.sql", "create table a (id int primary key);");
const TWO: (&str, &str) = (
    "0002_two.sql",
    "create table b (id int primary key, a_id int references a);",
);

#[tokio::test]
async fn running_it_again_changes_nothing() {
    let world = World::new().await;
    let all = derived(&files(&[ONE, TWO])).await.expect("derives");
    assert_eq!(world.apply(&all).await.expect("applies").versions, [1, 2]);
    let state = "select string_agg(c.oid || ':' || c.xmin, ',' order by c.oid) from pg_class c where relnamespace = 'app'::regnamespace";
    let before = world.all(state).await;
    assert!(world.apply(&all).await.expect("applies").versions.is_empty());
    assert_eq!(world.all(state).await, before);
}

#[tokio::test]
async fn an_edited_file_that_was_applied_is_named() {
    let world = World::new().await;
    world.migrate(&[ONE]).await;
    let edited = derived(&files(&[(ONE.0, "create table a (id bigint primary key);"), TWO]))
        .await
        .expect("derives");
    let error = world.apply(&edited).await.unwrap_err().to_string();
    assert!(error.contains("0001_one.sql") && error.contains("changed"), "{error}");
    assert_eq!(world.all("select to_regclass('app.b') is null").await, "true");
}

#[tokio::test]
async fn a_placement_that_is_ahead_and_a_file_that_comes_late_are_named() {
    let world = World::new().await;
    world.migrate(&[TWO_ALONE]).await;
    let without = derived(&files(&[("0003_c.sql", "create table c ();")]))
        .await
        .expect("derives");
    let error = world.apply(&without).await.unwrap_err().to_string();
    assert!(error.contains("0002_two.sql"), "{error}");
    let late = derived(&files(&[ONE, TWO_ALONE])).await.expect("derives");
    let error = world.apply(&late).await.unwrap_err().to_string();
    assert!(
        error.contains("0001_one.sql") && error.contains("next free number"),
        "{error}"
    );
}

const TWO_ALONE: (&str, &str) = ("0002_two.sql", "create table b (id int primary key);");

#[tokio::test]
async fn two_appliers_at_once_apply_each_version_once() {
    let world = World::new().await;
    let all = derived(&files(&[ONE, TWO])).await.expect("derives");
    let (first, second) = (world.connect().await, world.connect().await);
    let (first, second) = tokio::join!(world.apply_on(&first, &all), world.apply_on(&second, &all));
    let count = first.expect("applies").versions.len() + second.expect("waits").versions.len();
    assert_eq!(count, 2);
    assert_eq!(world.all("select count(*) from tenantry_private.migration").await, "2");
}

#[tokio::test]
async fn a_failing_migration_leaves_what_came_before_it() {
    let world = World::new().await;
    world.migrate(&[ONE]).await;
    world
        .run("insert into app.a (tenant_id, id) values (gen_random_uuid(), 1)")
        .await;
    let all = derived(&files(&[
        ONE,
        TWO,
        (
            "0003_three.sql",
            "create table c ();\nalter table a add column n int not null;",
        ),
    ]))
    .await
    .expect("derives");
    let error = world.apply(&all).await.unwrap_err().to_string();
    assert!(error.starts_with("0003_three.sql:2: "), "{error}");
    assert_eq!(
        world.all("select max(version) from tenantry_private.migration").await,
        "2"
    );
    assert_eq!(world.all("select to_regclass('app.c') is null").await, "true");
}

#[tokio::test]
async fn what_stands_there_already_is_no_success() {
    let world = World::new().await;
    world.migrate(&[ONE]).await;
    world.run("create table app.b (something_else text)").await;
    let all = derived(&files(&[ONE, TWO])).await.expect("derives");
    let error = world.apply(&all).await.unwrap_err().to_string();
    assert!(
        error.starts_with("0002_two.sql:1: ") && error.contains("already exists"),
        "{error}"
    );
    assert_eq!(
        world.all("select max(version) from tenantry_private.migration").await,
        "1"
    );
}

#[tokio::test]
async fn a_lock_held_by_the_application_is_waited_for() {
    let world = World::new().await;
    world.migrate(&[ONE]).await;
    let all = derived(&files(&[ONE, ("0002_two.sql", "alter table a add column n int;")]))
        .await
        .expect("derives");
    let reader = world.connect().await;
    reader
        .batch_execute("begin; lock table app.a in access share mode")
        .await
        .expect("holds");
    let release = async {
        // The applier waits in the lock's queue, gives up after its time-out, and is there again.
        while world.all("select count(*) from pg_locks where not granted").await == "0" {
            tokio::task::yield_now().await;
        }
        reader.batch_execute("commit").await.expect("releases");
    };
    let applier = world.connect().await;
    let (applied, ()) = tokio::join!(world.apply_on(&applier, &all), release);
    assert_eq!(applied.expect("applies").versions, [2]);
}

#[tokio::test]
async fn a_file_without_a_transaction_goes_on_where_it_stopped() {
    let world = World::new().await;
    world.migrate(&[ONE]).await;
    world
        .run("insert into app.a (tenant_id, id) values ('00000000-0000-0000-0000-000000000001', 1), ('00000000-0000-0000-0000-000000000002', 1)")
        .await;
    let all = derived(&files(&[
        ONE,
        (
            "0002_two.sql",
            "-- tenantry: no transaction
             alter table a add column n int default 1;
             create unique index concurrently a_n on a ((1));
             create index concurrently a_n2 on a (n);",
        ),
    ]))
    .await
    .expect("derives");
    world
        .run("insert into app.a (tenant_id, id) values ('00000000-0000-0000-0000-000000000001', 2)")
        .await;
    let error = world.apply(&all).await.unwrap_err().to_string();
    assert!(error.starts_with("0002_two.sql:3: "), "{error}");
    world.run("delete from app.a where id = 2").await;
    assert_eq!(world.apply(&all).await.expect("goes on").versions, [2]);
    assert_eq!(
        world
            .all("select count(*) from pg_index where indrelid = 'app.a'::regclass and indisvalid")
            .await,
        "3"
    );
    assert_eq!(
        world.all("select count(*) from tenantry_private.migration_step").await,
        "0"
    );
}

#[tokio::test]
async fn a_half_applied_file_that_was_edited_is_refused_until_it_is_as_it_was() {
    let world = World::new().await;
    world.migrate(&[ONE]).await;
    let rows = "insert into app.a (tenant_id, id)
                values ('00000000-0000-0000-0000-000000000001', 1), ('00000000-0000-0000-0000-000000000002', 1)";
    world.run(rows).await;
    let with = async |column: &str| {
        let text = format!(
            "-- tenantry: no transaction\nalter table a add column {column} int;\ncreate unique index concurrently a_one on a ((1));"
        );
        derived(&files(&[ONE, ("0002_two.sql", text.as_str())]))
            .await
            .expect("derives")
    };
    // A tenant has two rows of which there may be one.
    world
        .run("insert into app.a (tenant_id, id) values ('00000000-0000-0000-0000-000000000001', 2)")
        .await;
    let all = with("n").await;
    let error = world.apply(&all).await.unwrap_err().to_string();
    assert!(error.starts_with("0002_two.sql:3: "), "{error}");
    world.run("delete from app.a where id = 2").await;

    let error = world.apply(&with("m").await).await.unwrap_err().to_string();
    assert!(
        error.contains("0002_two.sql") && error.contains("undo the change"),
        "{error}"
    );
    assert_eq!(
        world.all("select max(version) from tenantry_private.migration").await,
        "1"
    );
    assert_eq!(world.apply(&all).await.expect("goes on").versions, [2]);
}

/// As by a program that isolates in another way: how far the one before came says nothing of these steps.
#[tokio::test]
async fn a_half_applied_file_of_which_other_steps_are_made_is_refused() {
    let world = World::new().await;
    world.migrate(&[ONE]).await;
    // A tenant has two rows of which there may be one.
    let rows = "insert into app.a (tenant_id, id)
                values ('00000000-0000-0000-0000-000000000001', 1), ('00000000-0000-0000-0000-000000000001', 2)";
    world.run(rows).await;
    let text = "-- tenantry: no transaction\nalter table a add column n int;\ncreate unique index concurrently a_one on a ((1));";
    let all = derived(&files(&[ONE, ("0002_two.sql", text)])).await.expect("derives");
    let error = world.apply(&all).await.unwrap_err().to_string();
    assert!(error.starts_with("0002_two.sql:3: "), "{error}");
    world.run("delete from app.a where id = 2").await;

    let mut other = all.clone();
    let two = other.versions.last_mut().expect("there are two");
    two.steps.remove(0);
    let error = world.apply(&other).await.unwrap_err().to_string();
    assert!(
        error.contains("0002_two.sql") && error.contains("other steps"),
        "{error}"
    );
    assert_eq!(
        world.all("select max(version) from tenantry_private.migration").await,
        "1"
    );
    assert_eq!(world.apply(&all).await.expect("goes on").versions, [2]);
}

#[tokio::test]
async fn progress_of_an_older_program_is_believed() {
    let world = World::new().await;
    world.migrate(&[ONE]).await;
    let text = "-- tenantry: no transaction\nalter table a add column n int;\nalter table a add column m int;";
    let all = derived(&files(&[ONE, ("0002_two.sql", text)])).await.expect("derives");
    // Of the twin's steps the first is the first column.
    world
        .run(
            "alter table app.a add column n int;
             insert into tenantry_private.migration_step (schema, version, done) values ('app', 2, 1)",
        )
        .await;
    assert_eq!(world.apply(&all).await.expect("goes on").versions, [2]);
}
