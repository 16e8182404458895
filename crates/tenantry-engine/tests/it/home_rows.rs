//! A tenant's rows are deleted from shared tables, many at a time, and nobody else's.

use tenantry_engine::home;

use crate::support::{World, tenant};

/// With keys of several columns, of one, and without one.
const TABLES: &str = r#"
create table notes (part text, "At" timestamptz, n numeric(10, 2), "K ind" char(3), body text, primary key (part, "At", n, "K ind"));
create table children (id bigint generated always as identity primary key, parent bigint references children);
create table words (word text);
create table settings (id uuid primary key default gen_random_uuid(), word text);
create table parts (id bigint, part int, primary key (id, part)) partition by list (part);
create table parts_1 partition of parts for values in (1);
create table parts_2 partition of parts for values in (2);
"#;

const ROWS: &str = r"
insert into notes select (array['a''b', E'c\\d', 'é', ''])[1 + n % 4], timestamptz '2020-01-01' + n * interval '1 us', n / 7.0, 'k', 'x'
  from generate_series(1, 12000) n;
insert into children (parent) select null from generate_series(1, 5000);
insert into words select 'w' from generate_series(1, 6000);
insert into settings (word) values ('w');
insert into parts select n, 1 + n % 2 from generate_series(1, 11000) n;
";

const ALL: u64 = 12_000 + 5_000 + 6_000 + 1 + 11_000;

/// How often a table was read from its beginning to its end.
async fn read_whole(world: &World, table: &str) -> String {
    world.run("select pg_stat_force_next_flush()").await;
    let reads = format!("select pg_stat_get_numscans('app.{table}'::regclass)");
    world.all(&reads).await
}

#[tokio::test]
async fn the_rows_of_one_tenant_go_by_their_keys_and_nobody_elses() {
    let world = World::new().await;
    world.migrate(&[("0001_all.sql", TABLES)]).await;
    for who in [1, 2] {
        world.as_tenant(tenant(who), ROWS).await.unwrap();
    }
    world.run("analyze").await;
    let count = "select (select count(*) from notes) + (select count(*) from children) + (select count(*) from words)
                      + (select count(*) from settings) + (select count(*) from parts)";
    let before = read_whole(&world, "notes").await;
    // What is deleted can't be forgotten as long as this is open.
    let old = world.connect().await;
    old.batch_execute("begin isolation level repeatable read; select 1")
        .await
        .unwrap();
    let mover = world.target("app").mover;
    let installation = mover
        .as_str()
        .strip_prefix("tn_")
        .and_then(|name| name.strip_suffix("_mover"));
    let installation = installation.expect("is named by its installation").parse().unwrap();
    let deleted = home::delete_rows(&world.admin, &installation, "app", tenant(1)).await;
    assert_eq!(deleted.unwrap(), ALL);
    assert_eq!(
        read_whole(&world, "notes").await,
        before,
        "a batch has read all of the table"
    );
    old.batch_execute("rollback").await.unwrap();
    assert_eq!(world.ask(tenant(1), count).await, "0");
    assert_eq!(world.ask(tenant(2), count).await, ALL.to_string());
    let deleted = home::delete_rows(&world.admin, &installation, "app", tenant(1)).await;
    assert_eq!(deleted.unwrap(), 0);
}
