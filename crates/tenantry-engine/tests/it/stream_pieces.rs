//! A copy in pieces: one that is broken off within a table goes on behind the last key that is there.

use std::time::Duration;

use rand::{SeedableRng, rngs::StdRng};
use tenantry_engine::transfer::{
    Copied, Progress, Rest, copy_rest,
    stream::{
        Applied, Kept, Snapshot, StreamError, Until, begin_position, make_publication, make_slot, prepare_target,
        read_kept, snapshot_beside,
    },
};
use tenantry_testing::{logical_cluster, second_logical_cluster};

use crate::stream_support::{PATIENCE, World, insert_everything, transaction};

const PIECE_ROWS: u64 = 10;
/// Of the table in which the copy is broken off, in two pieces.
const ROWS_THERE: u64 = 20;

/// Publication, slot and position.
async fn begin(world: &World) -> Snapshot {
    make_publication(&world.source.admin, &world.name, "app", world.tenant)
        .await
        .unwrap();
    let snapshot = make_slot(world.source.endpoint(), &world.source.admin, &world.name, PATIENCE)
        .await
        .unwrap();
    prepare_target(&world.target.admin, &world.installation).await.unwrap();
    begin_position(&world.target.admin, &world.name, snapshot.position, true)
        .await
        .unwrap();
    snapshot
}

/// Copies what is left as of a moment.
async fn copy(world: &World, snapshot: &Snapshot) -> Vec<Copied> {
    let (source, target) = (world.source.connect().await, world.target.connect().await);
    let rest = Rest {
        snapshot: snapshot.name(),
        stream: &world.name,
        piece_rows: PIECE_ROWS,
    };
    let ends = (world.source.end_on(&source), world.target.end_on(&target));
    let mut quiet = |_: Progress<'_>| ();
    copy_rest(ends.0, ends.1, world.tenant, rest, &mut quiet).await.unwrap()
}

/// Begins a copy that waits in the third piece of a table, for a row of its that is neither there nor not there, and is dropped then.
async fn broken_off(world: &World, table: &str, columns: &str, values: &str) -> Kept {
    let snapshot = begin(world).await;
    let holder = world.target.connect().await;
    let hold = format!(
        "begin; set local session_replication_role = replica;
         insert into {}.{table} (tenant_id, {columns}) values ('{}', {values})",
        world.target.schema, world.tenant
    );
    holder.batch_execute(&hold).await.unwrap();
    let two_pieces = async {
        loop {
            let kept = read_kept(&world.target.admin, &world.name).await.unwrap();
            let is_there = |copied: &Copied| copied.table == table && copied.rows == ROWS_THERE;
            if kept.begun.iter().any(|begun| is_there(&begun.copied)) {
                break kept;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let kept = tokio::select! {
        copied = copy(world, &snapshot) => panic!("the copy went through: {copied:?}"),
        kept = two_pieces => kept,
    };
    holder.batch_execute("rollback").await.unwrap();
    kept
}

/// Brings what is there up to a later moment.
async fn bring(world: &World, kept: &Kept) -> Result<(Snapshot, Applied), StreamError> {
    let snapshot = snapshot_beside(world.source.endpoint(), &world.name, PATIENCE).await?;
    let mut applier = world.applier().await;
    applier.only(kept);
    let applied = applier.run(&Until::Position(snapshot.position)).await?;
    applier.stop().await;
    begin_position(&world.target.admin, &world.name, snapshot.position, true).await?;
    Ok((snapshot, applied))
}

/// Follows until now, and compares.
async fn follow(world: &World) {
    let mut applier = world.applier().await;
    applier.run(&Until::Marker(world.marker().await)).await.unwrap();
    world.assert_same().await;
    applier.stop().await;
}

/// A table's rows, as text; all of the tenant's, or those that a condition names.
async fn rows(world: &World, schema: &str, table: &str, condition: &str) -> String {
    let place = match schema {
        "app" => &world.source,
        _ => &world.target,
    };
    let tenant = world.tenant;
    let of = format!("from {schema}.{table} t where tenant_id = '{tenant}' and {condition}");
    place
        .value(&format!("select string_agg(t::text, E'\\n' order by id) {of}"))
        .await
}

/// Sixty accounts, each with a note.
async fn fill(world: &World) {
    let tenant = world.tenant;
    let sql = format!(
        "insert into app.account (tenant_id, id, place) select '{tenant}', n, n from generate_series(1, 60) n;
         insert into app.note (tenant_id, id, account_id, body) select '{tenant}', n, n, 'note ' || n from generate_series(1, 60) n"
    );
    world.source.run(&sql).await;
    for n in 0..8 {
        world.source.run(&insert_everything(tenant, n)).await;
    }
}

async fn write(world: &World, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    for _ in 0..40 {
        transaction(&world.source.admin, world.tenant, &mut random).await;
    }
}

#[tokio::test]
async fn a_copy_that_was_broken_off_within_a_table_goes_on_behind_the_last_key() {
    let world = World::new(logical_cluster().await, second_logical_cluster().await).await;
    fill(&world).await;
    let kept = broken_off(&world, "note", "id, account_id", "25, 25").await;
    let whole: Vec<_> = kept.whole.iter().map(|copied| copied.table.as_str()).collect();
    assert_eq!(whole, ["account", "everything"]);
    assert_eq!(kept.rows(), 60 + 8 + ROWS_THERE);
    let of = format!("tenant_id = '{}'", world.tenant);
    let insert = format!(
        "insert into app.note (tenant_id, id, account_id, body) values ('{}'",
        world.tenant
    );
    // Rows on both sides of 20, and from one to the other and back.
    let changes = format!(
        "update app.note set n = n + 1 where {of} and id in (5, 20, 21, 45);
         delete from app.note where {of} and id in (3, 40);
         {insert}, -1, 1, 'within'), ('{}', 100, 1, 'beyond');
         update app.note set id = -5 where {of} and id = 7; update app.note set id = 200 where {of} and id = 8;
         update app.note set id = -6 where {of} and id = 41; update app.note set id = 300 where {of} and id = 42;
         update app.note set id = 400 where {of} and id = 9; update app.note set id = 9 where {of} and id = 400;
         begin; delete from app.note where {of} and id in (20, 21); {insert}, 20, 20, 'again'); {insert}, 21, 21, 'again'); commit;
         update app.account set place = 61 - place where {of}",
        world.tenant
    );
    world.source.run(&changes).await;
    let (snapshot, applied) = bring(&world, &kept).await.unwrap();
    assert!(applied.rows > 0);
    let there = rows(&world, &world.target.schema, "note", "true").await;
    assert_eq!(there, rows(&world, "app", "note", "id <= 20").await);
    write(&world, 41).await;
    let copied = copy(&world, &snapshot).await;
    assert_eq!(copied.len(), 3);
    let note = copied.iter().find(|copied| copied.table == "note").unwrap();
    // Beyond are 38 of the forty that were, one that came from within and one that is new.
    assert_eq!(note.rows, ROWS_THERE + 40);
    let kept = read_kept(&world.target.admin, &world.name).await.unwrap();
    assert_eq!((kept.whole.len(), kept.begun.len()), (3, 0));
    follow(&world).await;
}

/// Of a table with a second unique key, whose values pass from rows that are there to others.
#[tokio::test]
async fn a_copy_that_is_broken_off_and_gone_on_with_at_random_is_what_the_source_is() {
    let world = World::new(logical_cluster().await, logical_cluster().await).await;
    fill(&world).await;
    let mut kept = broken_off(&world, "account", "id, place", "25, -1").await;
    assert_eq!((kept.whole.len(), kept.rows()), (0, ROWS_THERE));
    let of = format!("tenant_id = '{}'", world.tenant);
    let swap = format!("update app.account set place = 61 - place where {of}");
    for seed in 51..55 {
        world.source.run(&swap).await;
        write(&world, seed).await;
        bring(&world, &kept).await.unwrap();
        // Another one took it over before it had copied anything.
        kept = read_kept(&world.target.admin, &world.name).await.unwrap();
        let there = rows(&world, &world.target.schema, "account", "true").await;
        assert_eq!(there, rows(&world, "app", "account", "id <= 20").await);
    }
    let (snapshot, _) = bring(&world, &kept).await.unwrap();
    write(&world, 55).await;
    copy(&world, &snapshot).await;
    follow(&world).await;
}

#[tokio::test]
async fn a_copy_goes_on_behind_a_key_of_several_columns_and_of_text_by_its_bytes() {
    let world = World::with(
        logical_cluster().await,
        second_logical_cluster().await,
        "create table note (code text collate \"C\", at timestamptz, number numeric(6, 2), body text, primary key (code, at, number));",
    )
    .await;
    let tenant = world.tenant;
    let fill = format!(
        "insert into app.note (tenant_id, code, at, number, body)
         select '{tenant}', (array['a', 'B', 'ä', 'it''s', E'\\\\'])[1 + n % 5], timestamptz '2020-02-03 04:05:06.789Z' + n % 3 * interval '1 hour',
                n + 0.5, 'x' || n from generate_series(1, 40) n"
    );
    world.source.run(&fill).await;
    let held = world
        .source
        .value(&format!(
            "select format('%L, %L, %L', code, at, number) from app.note where tenant_id = '{tenant}'
              order by code collate \"C\", at, number offset 24 limit 1"
        ))
        .await;
    let kept = broken_off(&world, "note", "code, at, number", &held).await;
    assert_eq!((kept.whole.len(), kept.rows()), (0, ROWS_THERE));
    let of = format!("tenant_id = '{tenant}'");
    let changes = format!(
        "update app.note set body = body || '!' where {of}; delete from app.note where {of} and number::int % 7 = 0;
         update app.note set code = 'A' where {of} and code = 'a' and at > '2020-02-03 05:00:00Z';
         update app.note set code = 'z' where {of} and code = 'B' and at > '2020-02-03 05:00:00Z';
         insert into app.note (tenant_id, code, at, number) values ('{tenant}', '', '-infinity', 'NaN'), ('{tenant}', 'ö', 'infinity', -1)"
    );
    world.source.run(&changes).await;
    let (snapshot, _) = bring(&world, &kept).await.unwrap();
    copy(&world, &snapshot).await;
    follow(&world).await;
}

/// Its large value is not told again, and is not there.
#[tokio::test]
async fn a_row_that_comes_from_beyond_the_last_key_without_all_of_its_values_ends_the_stream() {
    let world = World::new(logical_cluster().await, logical_cluster().await).await;
    fill(&world).await;
    let of = format!("tenant_id = '{}'", world.tenant);
    let large = format!(
        "update app.note set body = (select string_agg(md5(random()::text), '') from generate_series(1, 200)) where {of} and id in (7, 41)"
    );
    world.source.run(&large).await;
    let kept = broken_off(&world, "note", "id, account_id", "25, 25").await;
    let within = format!("update app.note set id = -7 where {of} and id = 7");
    world.source.run(&within).await;
    bring(&world, &kept).await.unwrap();
    let there = rows(&world, &world.target.schema, "note", "true").await;
    assert_eq!(there, rows(&world, "app", "note", "id <= 20").await);
    let from_beyond = format!("update app.note set id = -41 where {of} and id = 41");
    world.source.run(&from_beyond).await;
    let ended = bring(&world, &kept).await;
    assert!(
        matches!(&ended, Err(StreamError::Structure { table, .. }) if table == "note"),
        "{ended:?}"
    );
}

/// Somebody else took it away.
#[tokio::test]
async fn a_row_that_should_be_there_and_is_not_is_noticed_in_a_table_that_was_begun() {
    let world = World::new(logical_cluster().await, logical_cluster().await).await;
    fill(&world).await;
    let kept = broken_off(&world, "note", "id, account_id", "25, 25").await;
    let gone = format!("delete from {}.note where id = 5", world.target.schema);
    world.target.run(&gone).await;
    let of = format!("tenant_id = '{}'", world.tenant);
    let change = format!("update app.note set n = 1 where {of} and id in (5, 45)");
    world.source.run(&change).await;
    let ended = bring(&world, &kept).await;
    assert!(
        matches!(&ended, Err(StreamError::Diverged { rows: 0, .. })),
        "{ended:?}"
    );
}

#[tokio::test]
async fn tables_are_divided_whose_keys_every_server_orders_alike() {
    let world = World::with(
        logical_cluster().await,
        second_logical_cluster().await,
        "create type mood as enum ('fine', 'so so');
         create domain number as int;
         create table note (id int primary key);
         create table named (name uuid primary key);
         create table coded (code text collate \"C\" primary key);
         create table worded (word text primary key);
         create table counted (number number primary key);
         create table felt (mood mood, id int, primary key (mood, id));
         create table few (id int primary key);",
    )
    .await;
    let tenant = world.tenant;
    for (table, columns, values) in [
        ("note", "id", "n"),
        ("named", "name", "gen_random_uuid()"),
        ("coded", "code", "chr(60 + n) || n"),
        ("worded", "word", "chr(60 + n) || n"),
        ("counted", "number", "n"),
        ("felt", "mood, id", "'fine', n"),
    ] {
        let insert = format!(
            "insert into app.{table} (tenant_id, {columns}) select '{tenant}', {values} from generate_series(1, 25) n"
        );
        world.source.run(&insert).await;
    }
    let few = format!("insert into app.few (tenant_id, id) select '{tenant}', n from generate_series(1, 9) n");
    world.source.run(&few).await;
    let snapshot = begin(&world).await;
    copy(&world, &snapshot).await;
    for (table, pieces) in [
        ("note", "3"),
        ("named", "3"),
        ("coded", "3"),
        ("worded", "1"),
        ("counted", "1"),
        ("felt", "1"),
        ("few", "1"),
    ] {
        let transactions = format!("select count(distinct xmin::text) from {}.{table}", world.target.schema);
        assert_eq!(world.target.value(&transactions).await, pieces, "{table}");
    }
    follow(&world).await;
}
