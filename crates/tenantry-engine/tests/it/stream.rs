//! What a tenant writes at its old home reaches the new one, each transaction exactly once.

use std::{sync::Arc, time::Duration};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use tenantry_core::{OperationId, TenantId};
use tenantry_engine::{
    Roles,
    home::Outcome,
    transfer::{
        Recheck, SequencesAhead, Shared, carry_sequences,
        stream::{
            Applier, Difference, Direction, Plan, StreamError, StreamName, Until, Way, begin_position, compare,
            drop_publication, drop_slot, emit_marker, forget_position, hindrance_of_server, hindrance_of_tables,
            list_publications, list_slots, make_publication, make_slot, pair, prepare_target, read_position,
            snapshot_beside,
        },
    },
};
use tenantry_testing::{OwnClusterOptions, TestCluster, logical_cluster, own_cluster, second_logical_cluster};
use tenantry_wire::replication::Lsn;
use uuid::Uuid;

use crate::stream_support::{PATIENCE, World, Writer, insert_everything, transaction, transaction_in};

/// Never reached: an applier that goes on.
const FOREVER: Until = Until::Position(Lsn(u64::MAX));

async fn fill(world: &World, tenant: TenantId, seed: u64, transactions: u32) {
    let mut random = StdRng::seed_from_u64(seed);
    for _ in 0..transactions {
        transaction(&world.source.admin, tenant, &mut random).await;
    }
    for n in 0..8 {
        world.source.run(&insert_everything(tenant, n)).await;
    }
}

/// A server of the test's own.
fn logical() -> OwnClusterOptions {
    OwnClusterOptions {
        settings: vec![("wal_level".to_owned(), "logical".to_owned())],
        ..OwnClusterOptions::default()
    }
}

async fn world() -> World {
    let cluster = logical_cluster().await;
    World::new(cluster, cluster).await
}

async fn a_tenant_that_writes_is_followed(from: &TestCluster, to: &TestCluster) {
    let world = World::new(from, to).await;
    fill(&world, world.tenant, 1, 60).await;
    fill(&world, world.other, 2, 20).await;
    let writer = Writer::start(&world, world.tenant, 3).await;
    let neighbour = Writer::start(&world, world.other, 4).await;
    world.begin().await;
    let mut applier = world.applier().await;
    for _ in 0..4 {
        let marker = world.marker().await;
        applier.run(&Until::Marker(marker)).await.unwrap();
    }
    assert!(writer.stop().await > 20);
    assert!(neighbour.stop().await > 20);
    let marker = world.marker().await;
    let applied = applier.run(&Until::Marker(marker.clone())).await.unwrap();
    assert!(
        applied.position >= marker.position() && applied.transactions > 0,
        "{applied:?}"
    );
    world.assert_same().await;
    // Row by row by our own comparison too, which sees the same.
    let pair = pair(
        world.source.endpoint(),
        world.source.as_mover().await,
        world.target.as_mover().await,
        &mut applier,
        PATIENCE,
    );
    let compared = compare(&pair.await.unwrap(), 10).await.unwrap();
    assert!(compared.is_same(), "{compared:#?}");
    assert_eq!(compared.tables.len(), 3);
    applier.stop().await;
}

#[tokio::test]
async fn a_tenant_that_writes_is_followed_on_fifteen() {
    let cluster = logical_cluster().await;
    a_tenant_that_writes_is_followed(cluster, cluster).await;
}

#[tokio::test]
async fn a_tenant_that_writes_is_followed_from_fifteen_to_eighteen() {
    a_tenant_that_writes_is_followed(logical_cluster().await, second_logical_cluster().await).await;
}

#[tokio::test]
async fn a_tenant_that_writes_is_followed_from_eighteen_to_fifteen() {
    a_tenant_that_writes_is_followed(second_logical_cluster().await, logical_cluster().await).await;
}

#[tokio::test]
async fn a_stream_back_keeps_the_old_home_as_the_new_one_is_and_leaves_its_neighbours_alone() {
    let world = world().await;
    fill(&world, world.tenant, 31, 40).await;
    fill(&world, world.other, 32, 40).await;
    world.begin().await;
    let mut applier = world.applier().await;
    applier.run(&Until::Marker(world.marker().await)).await.unwrap();
    applier.stop().await;
    drop_slot(&world.source.admin, &world.name).await.unwrap();
    let theirs = format!(
        "select md5(string_agg(t::text, ',' order by id)) from app.note t where tenant_id = '{}'",
        world.other
    );
    let before = world.source.value(&theirs).await;

    // The new home is written now; the old one is as it was when the slot is made, so nothing is copied.
    let back = StreamName::new(&world.installation, world.name.operation(), Direction::Back);
    let (old, new) = (&world.source, &world.target);
    make_publication(&new.admin, &back, &new.schema, world.tenant)
        .await
        .unwrap();
    let slot = make_slot(new.endpoint(), &new.admin, &back, PATIENCE).await.unwrap();
    prepare_target(&old.admin, &world.installation).await.unwrap();
    let mover = old.as_mover().await;
    begin_position(&mover, &back, slot.position, false).await.unwrap();
    drop(slot);
    let mut random = StdRng::seed_from_u64(33);
    let mut committed = 0;
    for _ in 0..60 {
        committed += u32::from(transaction_in(&new.schema, &new.admin, world.tenant, &mut random).await);
    }
    assert!(committed > 20);
    let plan = Plan {
        name: back.clone(),
        tenant: world.tenant,
        source_schema: new.schema.clone(),
        target_schema: old.schema.clone(),
    };
    let mut applier = Applier::start(new.endpoint(), old.as_mover().await, plan)
        .await
        .unwrap();
    let marker = emit_marker(&new.admin, &back).await.unwrap();
    assert!(applier.run(&Until::Marker(marker)).await.unwrap().rows > 0);
    world.assert_same().await;
    assert_eq!(world.source.value(&theirs).await, before);
}

#[tokio::test]
async fn an_applier_that_is_killed_at_any_moment_is_followed_by_another_and_nothing_is_lost_or_doubled() {
    let world = world().await;
    fill(&world, world.tenant, 5, 40).await;
    world.begin().await;
    let writer = Writer::start(&world, world.tenant, 6).await;
    let neighbour = Writer::start(&world, world.other, 7).await;
    let (source, target) = (world.source.proxy().await, world.target.proxy().await);
    let mut random = StdRng::seed_from_u64(8);
    let (mut dropped, mut cut) = (0, 0);
    for _ in 0..24 {
        let endpoint = world.source.endpoint_at("127.0.0.1", source.port());
        let Some(client) = world.target.as_mover_through(&target).await else {
            continue;
        };
        let mut applier = Applier::start(endpoint, client, world.plan()).await.unwrap();
        let soon = Duration::from_micros(random.random_range(500..120_000));
        let kind = random.random_range(0..3);
        let wait = async {
            tokio::time::sleep(soon).await;
            match kind {
                0 => return,
                1 => source.cut_once(),
                _ => target.cut_once(),
            }
            // A cut shows as an error of the applier.
            tokio::time::sleep(Duration::from_secs(20)).await;
        };
        tokio::select! {
            ended = applier.run(&FOREVER) => {
                ended.unwrap_err();
                cut += 1;
                let again = applier.run(&FOREVER).await;
                assert!(matches!(again, Err(StreamError::Abandoned)), "{again:?}");
            }
            () = wait => dropped += 1,
        }
    }
    assert!(dropped > 2 && cut > 2, "{dropped} dropped, {cut} cut");
    writer.stop().await;
    neighbour.stop().await;
    let marker = world.marker().await;
    let mut applier = world.applier().await;
    applier.run(&Until::Marker(marker)).await.unwrap();
    world.assert_same().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_loses_and_doubles_nothing() {
    let mut own = own_cluster(logical()).await;
    let mut world = World::new(own.cluster(), own.cluster()).await;
    fill(&world, world.tenant, 21, 30).await;
    world.begin().await;
    let mut random = StdRng::seed_from_u64(22);
    for round in 0..4 {
        let mut applier = world.applier().await;
        let load = fill(&world, world.tenant, 23 + round, 25);
        tokio::select! {
            biased;
            ended = applier.run(&FOREVER) => panic!("{ended:?}"),
            () = load => {}
        }
        // Another one, which is in the midst of what the first one left.
        drop(applier);
        let mut applier = world.applier().await;
        let soon = Duration::from_micros(random.random_range(100..20_000));
        let _ = tokio::time::timeout(soon, applier.run(&FOREVER)).await;
        own.kill();
        drop(applier);
        tokio::task::block_in_place(|| own.restart());
        world.source.reconnect().await;
        world.target.reconnect().await;
    }
    let mut applier = world.applier().await;
    applier.run(&Until::Marker(world.marker().await)).await.unwrap();
    world.assert_same().await;
}

#[tokio::test]
async fn values_of_every_type_arrive_as_they_are_and_change_as_they_do() {
    let world = world().await;
    world.begin().await;
    for n in 0..40 {
        world.source.run(&insert_everything(world.tenant, n)).await;
    }
    let of = format!("tenant_id = '{}'", world.tenant);
    let mut applier = world.applier().await;
    applier.run(&Until::Marker(world.marker().await)).await.unwrap();
    world.assert_same().await;
    world
        .source
        .run(&format!(
            "update app.everything set num = case when num = 'NaN' then numeric 'Infinity' else 'NaN' end, d = '-Infinity', part = part || '!' where {of};
             update app.everything set moods = array['fine']::app.mood[], p = null, tz = 'infinity', b = '\\x00ff', ints = '{{}}' where {of};
             update app.everything set fixed = fixed + 1 where {of}; delete from app.everything where {of} and id % 3 = 0"
        ))
        .await;
    applier.run(&Until::Marker(world.marker().await)).await.unwrap();
    world.assert_same().await;
    // What is no number has several forms and one text, in which it arrives.
    let no_number = format!("update app.everything set d = d - d, r = 'Infinity'::real - 'Infinity'::real where {of}");
    world.source.run(&no_number).await;
    let (source, target) = (world.source.as_mover().await, world.target.as_mover().await);
    let pair = pair(world.source.endpoint(), source, target, &mut applier, PATIENCE).await;
    let compared = compare(&pair.unwrap(), 10).await.unwrap();
    assert!(compared.is_same(), "{compared:#?}");
}

#[tokio::test]
async fn keys_and_uniques_are_swapped_within_a_transaction() {
    let world = world().await;
    let (tenant, of) = (world.tenant, format!("tenant_id = '{}'", world.tenant));
    let rows = format!(
        "insert into app.account (tenant_id, id, place) select '{tenant}', n, n from generate_series(1, 100) n;
         insert into app.note (tenant_id, id, account_id, body) select '{tenant}', n, n, string_agg(md5(random()::text), '')
           from generate_series(1, 100) n, generate_series(1, 100) group by n"
    );
    world.source.run(&rows).await;
    world.begin().await;
    let swaps = format!(
        "begin; update app.account set place = 101 - place where {of}; commit;
         begin; set constraints all deferred; update app.account set place = 99 where {of} and id = 1;
                update app.account set place = 100 where {of} and id = 2; commit;
         begin; update app.note set id = -id where {of}; update app.note set id = 101 + id where {of}; commit;
         begin; delete from app.note where {of} and id = 7;
                insert into app.note (tenant_id, id, account_id, body) values ('{tenant}', 7, 8, 'again'); commit"
    );
    world.source.run(&swaps).await;
    let mut applier = world.applier().await;
    applier.run(&Until::Marker(world.marker().await)).await.unwrap();
    world.assert_same().await;
}

#[tokio::test]
async fn it_goes_exactly_as_far_as_it_is_told() {
    let world = world().await;
    world.begin().await;
    let account = |id: i32| {
        format!(
            "insert into app.account (tenant_id, id, place) values ('{}', {id}, {id})",
            world.tenant
        )
    };
    world.source.run(&account(1)).await;
    let first = world.marker().await;
    world.source.run(&account(2)).await;
    let second = world.marker().await;
    let count = format!("select count(*) from {}.account", world.target.schema);
    let mut applier = world.applier().await;
    let applied = applier.run(&Until::Position(first.position())).await.unwrap();
    assert_eq!((world.target.value(&count).await.as_str(), applied.rows), ("1", 1));
    // What is behind the point was read, and is not lost; points that were passed are reached at once.
    for (until, expected) in [
        (Until::Marker(first.clone()), "1"),
        (Until::Marker(second.clone()), "2"),
        (Until::Marker(first), "2"),
        (Until::Position(second.position()), "2"),
    ] {
        let applied = applier.run(&until).await.unwrap();
        assert_eq!(world.target.value(&count).await, expected);
        assert!(applied.position >= read_position(&world.target.admin, &world.name).await.unwrap().unwrap());
    }
    // And an applier that starts behind a marker does not wait for it; it starts when the one before has ended.
    let ending = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        applier.stop().await;
    };
    let (started, ()) = tokio::join!(world.start(), ending);
    started.unwrap().stop().await;
    let mut applier = world.applier().await;
    let applied = applier.run(&Until::Marker(second)).await.unwrap();
    assert_eq!((applied.rows, world.target.value(&count).await.as_str()), (0, "2"));
}

/// A target that crashed may have forgotten it.
#[tokio::test]
async fn what_is_committed_lightly_the_source_keeps() {
    let world = world().await;
    world.begin().await;
    let mut applier = world.applier().await;
    applier.run(&Until::Marker(world.marker().await)).await.unwrap();
    let lasting = read_position(&world.target.admin, &world.name).await.unwrap().unwrap();
    applier.lightly();
    let account = format!(
        "insert into app.account (tenant_id, id, place) values ('{}', 1, 1)",
        world.tenant
    );
    world.source.run(&account).await;
    let applied = applier.run(&Until::Marker(world.marker().await)).await.unwrap();
    assert_eq!(applied.rows, 1);
    world.assert_same().await;
    applier.stop().await;
    let crashed = format!(
        "delete from {}.account where tenant_id = '{}'; update tenantry_move.position set position = '{lasting}' where stream = '{}'",
        world.target.schema,
        world.tenant,
        world.name.text()
    );
    world.target.run(&crashed).await;
    let mut applier = world.applier().await;
    let applied = applier.run(&Until::Marker(world.marker().await)).await.unwrap();
    assert_eq!(applied.rows, 1, "it is told again");
    world.assert_same().await;
}

#[tokio::test]
async fn rows_that_somebody_put_wrong_are_found_while_both_sides_go_on() {
    let world = world().await;
    fill(&world, world.tenant, 11, 80).await;
    let rows = format!(
        "insert into app.account (tenant_id, id, place) select '{}', n, n from generate_series(2001, 2300) n",
        world.tenant
    );
    world.source.run(&rows).await;
    world.begin().await;
    let mut applier = world.applier().await;
    applier.run(&Until::Marker(world.marker().await)).await.unwrap();
    let schema = &world.target.schema;
    world
        .target
        .run(&format!(
            "set session_replication_role = replica; set search_path = {schema}, tenantry_ext;
             update {schema}.account set place = -place where id = 2100; delete from {schema}.account where id = 2200;
             insert into {schema}.account (tenant_id, id, place) values ('{}', 9000, 9000); reset session_replication_role",
            world.tenant
        ))
        .await;
    let writer = Writer::start(&world, world.tenant, 12).await;
    let pair = pair(
        world.source.endpoint(),
        world.source.as_mover().await,
        world.target.as_mover().await,
        &mut applier,
        PATIENCE,
    )
    .await
    .unwrap();
    let compared = tokio::select! {
        compared = compare(&pair, 10) => compared.unwrap(),
        ended = applier.run(&FOREVER) => panic!("{ended:?}"),
    };
    writer.stop().await;
    let mut found = compared.differences.clone();
    found.sort_by_key(|difference| difference.way);
    let key = |id: i32| format!("({id},{})", world.tenant);
    let difference = |id, way| Difference {
        table: "account".to_owned(),
        key: key(id),
        way,
    };
    assert_eq!(
        found,
        [
            difference(2200, Way::Missing),
            difference(9000, Way::Extra),
            difference(2100, Way::Changed)
        ]
    );
    assert!(!compared.is_same());
    let differing: Vec<_> = compared.tables.iter().filter(|table| !table.same).collect();
    assert_eq!(differing.len(), 1, "{compared:?}");
    assert_eq!(compare(&pair, 1).await.unwrap().differences.len(), 1);
}

#[tokio::test]
async fn what_is_written_after_the_comparison_is_compared_again_by_its_key() {
    let world = world().await;
    fill(&world, world.tenant, 41, 60).await;
    let rows = format!(
        "insert into app.account (tenant_id, id, place) select '{}', n, n from generate_series(2001, 2300) n",
        world.tenant
    );
    world.source.run(&rows).await;
    world.begin().await;
    let mut applier = world.applier().await;
    let (source, target) = (world.source.as_mover().await, world.target.as_mover().await);
    let pair = pair(world.source.endpoint(), source, target, &mut applier, PATIENCE)
        .await
        .unwrap();
    let before = compare(&pair, 10).await.unwrap();
    assert!(before.is_same(), "{before:?}");
    drop(pair);
    assert_eq!(applier.touched().unwrap().keys(), Some(0));
    fill(&world, world.tenant, 42, 60).await;
    let changes = format!(
        "update app.account set id = 5000 where tenant_id = '{0}' and id = 2001; delete from app.account where tenant_id = '{0}' and id = 2002;
         update app.account set place = -2003 where tenant_id = '{0}' and id = 2003",
        world.tenant
    );
    world.source.run(&changes).await;
    applier.run(&Until::Marker(world.marker().await)).await.unwrap();
    let touched = applier.touched().unwrap();
    let (here, there) = (world.source.end(), world.target.end());
    let known = Recheck::prepare(here, there, world.tenant).await.unwrap();
    let again = async || known.run(here, there, touched).await;
    let same = again().await.unwrap();
    for table in &before.tables {
        let count = format!(
            "select count(*) from app.{} where tenant_id = '{}'",
            table.table, world.tenant
        );
        let now: i64 = world.source.value(&count).await.parse().unwrap();
        let gained = same
            .iter()
            .find(|one| one.table == table.table)
            .map_or(0, |one| one.gained);
        assert_eq!(table.source_rows + gained, now, "{}", table.table);
    }
    // 2001 is gone and 5000 came; many others are not looked at.
    let account = same.iter().find(|one| one.table == "account").unwrap();
    assert!((4..250).contains(&account.rows), "{account:?}");
    let schema = &world.target.schema;
    for (wrong, right, key) in [
        (
            "update {}.account set place = 7777777 where id = 5000",
            "update {}.account set place = 2001 where id = 5000",
            "(5000)",
        ),
        (
            "insert into {}.account (tenant_id, id, place) values ('{t}', 2002, 8888888)",
            "delete from {}.account where id = 2002",
            "(2002)",
        ),
        (
            "delete from {}.account where id = 2003",
            "insert into {}.account (tenant_id, id, place) values ('{t}', 2003, -2003)",
            "(2003)",
        ),
    ] {
        let put = async |sql: &str| {
            let sql = sql.replace("{}", schema).replace("{t}", &world.tenant.to_string());
            world
                .target
                .run(&format!(
                    "set session_replication_role = replica; {sql}; reset session_replication_role"
                ))
                .await;
        };
        put(wrong).await;
        let refused = again().await.unwrap_err().to_string();
        assert!(refused.contains(&format!("among them {key}")), "{refused}");
        world.target.run("rollback").await;
        world.source.run("rollback").await;
        put(right).await;
    }
    assert_eq!(again().await.unwrap(), same);
}

/// No index leads to them: all rows are looked through once, while the tenant works.
#[tokio::test]
async fn numbers_that_nobody_drew_are_found_in_what_was_written_since() {
    let world = world().await;
    for n in 0..20 {
        world.source.run(&insert_everything(world.tenant, n)).await;
    }
    world.begin().await;
    let mut applier = world.applier().await;
    applier.track();
    let by_hand = |id: i64| {
        format!(
            "insert into app.everything (tenant_id, part, id) overriding system value values ('{}', 'by hand', {id})",
            world.tenant
        )
    };
    world.source.run(&by_hand(70_000)).await;
    let (here, there) = (world.source.end(), world.target.end());
    let ahead = SequencesAhead::look(here, world.tenant).await.unwrap();
    let owner = Roles::of(&world.installation).owner;
    let last = format!(
        "select pg_sequence_last_value('{}.everything_id_seq'::regclass)",
        world.target.schema
    );
    let gone = "delete from app.everything where id = 70000".to_owned();
    for (changes, expected) in [
        (vec![], "70000"),
        (vec![by_hand(90_000), by_hand(80_000), gone], "90000"),
    ] {
        for change in changes {
            world.source.run(&change).await;
        }
        applier.run(&Until::Marker(world.marker().await)).await.unwrap();
        let known = Some((&ahead, applier.touched().unwrap()));
        carry_sequences(here, there, &owner, world.tenant, Shared::Yes, known)
            .await
            .unwrap();
        assert_eq!(world.target.value(&last).await, expected);
    }
}

#[tokio::test]
async fn a_row_of_another_tenant_is_refused() {
    let world = world().await;
    make_publication(&world.source.admin, &world.name, "app", world.tenant)
        .await
        .unwrap();
    // Somebody takes the filter away.
    world
        .source
        .run(&format!(
            "alter publication {} set table app.account",
            world.name.text()
        ))
        .await;
    world.begin_published().await;
    world
        .source
        .run(&format!(
            "insert into app.account (tenant_id, id, place) values ('{}', 1, 1), ('{}', 2, 2)",
            world.tenant, world.other
        ))
        .await;
    let mut applier = world.applier().await;
    let ended = applier.run(&FOREVER).await;
    assert!(
        matches!(&ended, Err(StreamError::Foreign { table }) if table == "account"),
        "{ended:?}"
    );
    let count = format!("select count(*) from {}.account", world.target.schema);
    assert_eq!(world.target.value(&count).await, "0");
}

/// What ends a stream after a statement at the source.
async fn ended_by(sql: &str) -> String {
    let world = world().await;
    world.begin().await;
    let mut applier = world.applier().await;
    let insert = format!(
        "insert into app.account (tenant_id, id, place) values ('{}', 1, 1)",
        world.tenant
    );
    world.source.run(&insert).await;
    applier.run(&Until::Marker(world.marker().await)).await.unwrap();
    world
        .source
        .run(&sql.replace("TENANT", &world.tenant.to_string()))
        .await;
    let ended = tokio::time::timeout(PATIENCE, applier.run(&FOREVER)).await;
    ended.expect("it ends").unwrap_err().to_string()
}

#[tokio::test]
async fn a_table_that_is_altered_ends_the_stream_with_what_to_do() {
    let change = "insert into app.account (tenant_id, id, place";
    for (sql, expected) in [
        (
            format!("alter table app.account add more int; {change}) values ('TENANT', 5, 5)"),
            "the table `account` has a column `more` that the target has not",
        ),
        (
            format!("alter table app.account alter place type bigint; {change}) values ('TENANT', 5, 5)"),
            "the table `account` has another type for its column `place`",
        ),
        (
            "alter table app.account rename place to spot; insert into app.account (tenant_id, id, spot) values ('TENANT', 5, 5)"
                .to_owned(),
            "the table `account` has a column `spot` that the target has not",
        ),
    ] {
        let said = ended_by(&sql).await;
        assert!(said.starts_with(expected) && said.contains("plan it again"), "{said}");
    }
    let said = ended_by("truncate app.account cascade").await;
    assert!(said.contains("was truncated at the source"), "{said}");
}

#[tokio::test]
async fn a_target_that_somebody_else_wrote_in_is_noticed() {
    let world = world().await;
    world.begin().await;
    let of = format!("tenant_id = '{}'", world.tenant);
    let insert = format!(
        "insert into app.account (tenant_id, id, place) values ('{}', 1, 1), ('{0}', 2, 2)",
        world.tenant
    );
    world.source.run(&insert).await;
    let mut applier = world.applier().await;
    applier.run(&Until::Marker(world.marker().await)).await.unwrap();
    world
        .target
        .run(&format!("delete from {}.account where id = 1", world.target.schema))
        .await;
    world
        .source
        .run(&format!("update app.account set place = place + 10 where {of}"))
        .await;
    let ended = applier.run(&FOREVER).await;
    assert!(
        matches!(&ended, Err(StreamError::Diverged { rows: 0, .. })),
        "{ended:?}"
    );
    let place = format!("select place from {}.account where id = 2", world.target.schema);
    assert_eq!(world.target.value(&place).await, "2");
    // the same where another process went on with the stream meanwhile
    drop(applier);
    let mut applier = world.applier().await;
    world
        .target
        .run("update tenantry_move.position set position = '0/1'")
        .await;
    world
        .target
        .run(&format!(
            "insert into {}.account (tenant_id, id, place) values ('{}', 1, 1)",
            world.target.schema, world.tenant
        ))
        .await;
    let ended = applier.run(&FOREVER).await;
    assert!(matches!(ended, Err(StreamError::Superseded)), "{ended:?}");
}

#[tokio::test]
async fn a_table_without_a_key_is_refused_before_anything_is_made() {
    let cluster = logical_cluster().await;
    let world = World::with(
        cluster,
        cluster,
        "create table log (line text); create table note (id int primary key);",
    )
    .await;
    let made = make_publication(&world.source.admin, &world.name, "app", world.tenant).await;
    assert!(
        matches!(&made, Err(StreamError::NoKey { table }) if table == "log"),
        "{made:?}"
    );
    let listed = list_publications(&world.source.admin, &world.installation)
        .await
        .unwrap();
    assert!(listed.is_empty());
}

#[tokio::test]
async fn a_table_whose_changes_nobody_is_told_is_in_the_way_of_a_stream() {
    let world = world().await;
    let why = async || hindrance_of_tables(&world.source.admin, "app").await.unwrap();
    assert_eq!(why().await, None);
    world
        .source
        .run("create unlogged table app.loose (tenant_id uuid, id int, primary key (tenant_id, id))")
        .await;
    let told = why().await.unwrap_or_default();
    assert!(told.contains("`loose` is unlogged"), "{told}");
}

#[tokio::test]
async fn what_a_move_made_is_found_and_dropped_and_what_others_made_stays() {
    let world = world().await;
    let admin = &world.source.admin;
    world.begin().await;
    assert_eq!(
        make_publication(admin, &world.name, "app", world.tenant).await.unwrap(),
        Outcome::AlreadySo
    );
    // Somebody else's, and one that only looks like ours.
    let lookalike = StreamName::new(
        &world.installation,
        OperationId::from_uuid(Uuid::now_v7()),
        Direction::There,
    );
    let theirs = format!("slot_{}", Uuid::now_v7().simple());
    world
        .source
        .run(&format!(
            "create publication {}; create publication theirs",
            lookalike.text()
        ))
        .await;
    world
        .source
        .run(&format!(
            "select pg_create_logical_replication_slot('{theirs}', 'pgoutput')"
        ))
        .await;
    let dropped = drop_publication(admin, &lookalike).await;
    assert!(matches!(dropped, Err(StreamError::NotOurs { .. })), "{dropped:?}");
    let made = make_publication(admin, &lookalike, "app", world.tenant).await;
    assert!(matches!(made, Err(StreamError::NotOurs { .. })), "{made:?}");

    let mut applier = world.applier().await;
    applier.run(&Until::Marker(world.marker().await)).await.unwrap();
    let slots = list_slots(admin, &world.installation).await.unwrap();
    let found: Vec<_> = slots.iter().map(|slot| (slot.operation, slot.active)).collect();
    assert_eq!(found, [(world.name.operation(), true)]);
    let publications = list_publications(admin, &world.installation).await.unwrap();
    let found: Vec<_> = publications.iter().map(|publication| publication.operation).collect();
    assert_eq!(found, [world.name.operation()]);

    // Although it is in use.
    assert_eq!(drop_slot(admin, &world.name).await.unwrap(), Outcome::Done);
    assert_eq!(drop_slot(admin, &world.name).await.unwrap(), Outcome::AlreadySo);
    assert_eq!(drop_publication(admin, &world.name).await.unwrap(), Outcome::Done);
    assert_eq!(drop_publication(admin, &world.name).await.unwrap(), Outcome::AlreadySo);
    assert!(list_slots(admin, &world.installation).await.unwrap().is_empty());
    assert!(list_publications(admin, &world.installation).await.unwrap().is_empty());
    let left = format!("select count(*) from pg_replication_slots where slot_name = '{theirs}'");
    assert_eq!(world.source.value(&left).await, "1");
    world
        .source
        .run(&format!("select pg_drop_replication_slot('{theirs}')"))
        .await;

    applier.run(&FOREVER).await.unwrap_err();
    drop(applier);
    let started = world.start().await;
    assert!(matches!(&started, Err(StreamError::SlotLost { .. })), "{started:?}");
    let mover = world.target.as_mover().await;
    assert_eq!(forget_position(&mover, &world.name).await.unwrap(), Outcome::Done);
    assert_eq!(forget_position(&mover, &world.name).await.unwrap(), Outcome::AlreadySo);
    let started = world.start().await;
    assert!(matches!(&started, Err(StreamError::NoPosition)), "{started:?}");
}

/// A move has a slot, and takes another one for the moment in which it compares.
#[tokio::test]
async fn a_server_with_one_slot_left_has_too_few() {
    let mut options = logical();
    options
        .settings
        .push(("max_replication_slots".to_owned(), "2".to_owned()));
    let own = own_cluster(options).await;
    let world = World::new(own.cluster(), own.cluster()).await;
    assert_eq!(hindrance_of_server(&world.source.admin).await.unwrap(), None);
    let take = |name: &str| format!("select pg_create_physical_replication_slot('{name}')");
    world.source.run(&take("theirs")).await;
    let why = hindrance_of_server(&world.source.admin).await.unwrap().unwrap();
    assert!(why.contains("1 replication slots left, and a move takes 2"), "{why}");
    // Somebody takes it although there were enough when the move was planned.
    world.source.run(&take("theirs_too")).await;
    let made = snapshot_beside(world.source.endpoint(), &world.name, Duration::from_secs(5)).await;
    assert!(matches!(&made, Err(error) if error.is_full()), "{made:?}");
}

#[tokio::test]
async fn a_slot_does_not_wait_for_a_long_transaction_for_ever() {
    // A server of its own: the transaction holds up everybody's slots.
    let own = own_cluster(logical()).await;
    let world = World::new(own.cluster(), own.cluster()).await;
    make_publication(&world.source.admin, &world.name, "app", world.tenant)
        .await
        .unwrap();
    let long = world.source.connect().await;
    long.batch_execute("begin; create table public.held ()").await.unwrap();
    let short = Duration::from_millis(300);
    let made = make_slot(world.source.endpoint(), &world.source.admin, &world.name, short).await;
    assert!(matches!(made, Err(StreamError::Impatient { .. })), "{made:?}");
    long.batch_execute("rollback").await.unwrap();
    // What the attempt left is no obstacle.
    world.begin_published().await;
    drop(world.applier().await);
    let Err(error) = make_slot(
        Arc::new({
            let mut stranger = (*world.source.endpoint()).clone();
            stranger.database = "no_such_database".to_owned();
            stranger
        }),
        &world.source.admin,
        &world.name,
        short,
    )
    .await
    else {
        panic!("connected to a database that is not there");
    };
    assert!(error.to_string().contains("3D000"), "{error}");
}
