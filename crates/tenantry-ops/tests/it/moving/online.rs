//! Moves that copy while the tenant writes.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use futures_util::future::join_all;
use tenantry_core::{Isolation, OperationId, TenantId};
use tenantry_engine::transfer::stream::{Direction, StreamName, make_publication};
use tenantry_ops::{CertificateError, FleetConfig, Operation, OperationState};
use tenantry_testing::{OwnClusterOptions, logical_cluster, own_cluster, second_logical_cluster};
use uuid::Uuid;

use super::killed::LETTERS;
use crate::{
    child::Process,
    fleet::{Fleet, config, operator},
};

/// Two servers, `one` and `two`, whose changes can be streamed.
pub(super) async fn logical(mut config: FleetConfig) -> Fleet {
    config.wait = Duration::from_secs(60);
    let fleet = Fleet::empty(config).await;
    fleet.add("one", logical_cluster().await).await;
    fleet.add("two", second_logical_cluster().await).await;
    fleet
}

/// How many rows of a table are copied at a time.
pub(crate) const PIECE_ROWS: u64 = 8;

/// Also the smallest tenant works while it is copied, in pieces.
pub(super) fn following() -> FleetConfig {
    let mut config = config();
    config.move_online_rows = 0;
    config.move_piece_rows = PIECE_ROWS;
    config
}

pub(super) async fn write_many(fleet: &Fleet, tenant: TenantId, rows: u32) {
    let client = fleet.enter(tenant).await.unwrap();
    let sql = format!(
        "insert into notes (contact, text)
         select (select id from contacts limit 1), 'many ' || n || repeat('x', 200) from generate_series(1, {rows}) n"
    );
    client.execute(&sql, &[]).await.unwrap();
}

/// What a writer knows of the rows that it wrote.
#[derive(Default)]
pub(super) struct Written {
    /// The text of each, or that it is gone, as it was acknowledged. One whose change was refused is not here.
    pub(super) rows: BTreeMap<u32, Option<String>>,
}

/// Inserts, changes and deletes rows as the tenant, wherever it lives, until it is told to stop.
pub(super) async fn write(fleet: &Fleet, tenant: TenantId, from: u32, stop: &AtomicBool) -> Written {
    let mut written = Written::default();
    let (mut client, mut ids) = (None, BTreeMap::new());
    let mut n = from;
    while !stop.load(Ordering::Relaxed) {
        let bound = match client.take() {
            Some(bound) => bound,
            None => match fleet.enter(tenant).await {
                Ok(bound) => bound,
                Err(_) => {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    continue;
                }
            },
        };
        n += 1;
        let before = from + (n - from) / 2;
        // By their ids, so that the server writes as fast as it can.
        let id = ids.get(&before).copied();
        let (of, sql, text) = match (n % 4, id) {
            (0, Some(id)) => (before, format!("delete from notes where id = {id} returning id"), None),
            (1, Some(id)) => {
                let text = format!("w{before}.{n}");
                let sql = format!("update notes set text = '{text}' where id = {id} returning id");
                (before, sql, Some(text))
            }
            _ => {
                let text = format!("w{n}.");
                let sql =
                    format!("insert into notes (contact, text) select id, '{text}' from contacts limit 1 returning id");
                (n, sql, Some(text))
            }
        };
        match bound.query_one(&sql, &[]).await {
            Ok(row) => {
                match text {
                    Some(_) => ids.insert(of, row.get::<_, i64>(0)),
                    None => ids.remove(&of),
                };
                written.rows.insert(of, text);
                client = Some(bound);
            }
            Err(_) => {
                ids.remove(&of);
                written.rows.remove(&of);
            }
        }
    }
    written
}

pub(super) async fn assert_all_there(fleet: &Fleet, tenant: TenantId, written: &Written) {
    let client = fleet.enter(tenant).await.unwrap();
    let rows = client
        .query("select text from notes where text like 'w%.%'", &[])
        .await
        .unwrap();
    let mut there: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    for text in rows.iter().map(|row| row.get::<_, String>(0)) {
        let number = text[1..text.find('.').unwrap()].parse().unwrap();
        there.entry(number).or_default().push(text);
    }
    for (number, texts) in &there {
        assert_eq!(texts.len(), 1, "{number} is there more than once");
    }
    for (number, text) in &written.rows {
        let found = there.get(number).map(|texts| &texts[0]);
        assert_eq!(found, text.as_ref(), "{number}");
    }
}

async fn moves_while_it_writes(fleet: &Fleet, tenant: TenantId, from: u32, to: &str) -> (Written, Operation) {
    let stop = AtomicBool::new(false);
    let moving = async {
        let ended = fleet.moved(tenant, to).await;
        stop.store(true, Ordering::Relaxed);
        ended
    };
    let (written, ended) = tokio::join!(write(fleet, tenant, from, &stop), moving);
    assert_eq!(ended.state, OperationState::Done, "{to}: {ended:?}");
    assert_eq!(fleet.open_cleanups(ended.id).await, 0, "{to}");
    (written, ended)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_writes_while_it_moves_and_every_row_arrives_once() {
    let fleet = logical(following()).await;
    let neighbour = fleet.filled("neighbour", Isolation::Shared).await;
    let tenant = fleet.filled("acme", Isolation::Shared).await;
    write_many(&fleet, tenant.id, 60_000).await;
    let others = fleet.rows(neighbour.id).await;
    let request = super::support::request("database@two");
    let plan = fleet.ops.plan_move(&operator(), &tenant.id.into(), &request).await;
    assert_eq!(plan.unwrap().held_because, None);
    // To another release, back into shared tables, and to a schema of its own.
    for (number, to) in [(1, "database@two"), (2, "shared@one"), (3, "schema@two")] {
        let (written, ended) = moves_while_it_writes(&fleet, tenant.id, number * 1_000_000, to).await;
        assert_all_there(&fleet, tenant.id, &written).await;
        fleet.lives_once(tenant.id, to).await;
        assert_eq!(fleet.place(tenant.id).await, to);
        assert_eq!(fleet.streams().await, [""; 0], "{to}");
        let figure = |name: &str| {
            ended.progress[name]
                .as_u64()
                .unwrap_or_else(|| panic!("{name}: {ended:?}"))
        };
        assert!(figure("followed_rows") > 20, "{to}: little was written meanwhile");
        assert!(written.rows.len() > 20, "{to}");
        assert!(
            figure("held_ms") > 0 && figure("copied_ms") > 0,
            "{to}: both are measured"
        );
        let parts = ended.progress["held_for_ms"].as_object().unwrap();
        let parts: Vec<_> = [
            "close",
            "rows",
            "jobs",
            "history",
            "sequences",
            "compare",
            "switch",
            "open",
        ]
        .map(|part| parts[part].as_u64().unwrap())
        .into();
        assert!(parts.iter().sum::<u64>() <= figure("held_ms"), "{to}: {parts:?}");
        assert_eq!(ended.progress["held_because"], serde_json::Value::Null);
        assert!(figure("compared_ms") > 0, "{to}: it was compared while it wrote");
        assert!(figure("compared_again") > 0, "{to}: and what it wrote since, again");
        assert_certified(&fleet, tenant.id, &ended, to).await;
    }
    assert_eq!(fleet.rows(neighbour.id).await, others);
}

/// The certificate says what was moved, up to the last row, and nobody has changed it.
async fn assert_certified(fleet: &Fleet, tenant: TenantId, ended: &Operation, to: &str) {
    let signed = &ended.progress["certificate"];
    let certificate = &fleet.ops.verify_move(&signed.to_string()).unwrap();
    assert_eq!(&signed["certificate"], certificate);
    let mut other = signed.clone();
    other["certificate"]["held_ms"] = 0.into();
    let refused = fleet.ops.verify_move(&other.to_string());
    assert_eq!(refused, Err(CertificateError::Differs));
    assert_eq!(certificate["compared"], "while the tenant worked");
    let place = format!(
        "{}@{}",
        certificate["to"]["isolation"].as_str().unwrap(),
        certificate["to"]["server_name"].as_str().unwrap()
    );
    assert_eq!(place, to);
    for position in ["copied", "compared", "switched"] {
        assert!(certificate["positions"][position].is_string(), "{certificate}");
    }
    let tables = certificate["tables"].as_array().unwrap();
    let notes = tables.iter().find(|table| table["table"] == "notes").unwrap();
    // It goes on writing in its new home, so that nobody can count them any more; the engine's tests do.
    let (rows, rows_now) = (notes["rows"].as_i64().unwrap(), notes["rows_now"].as_i64().unwrap());
    assert!(
        60_000 < rows && rows <= rows_now && rows_now <= fleet.notes(tenant).await,
        "{to}: {notes}"
    );
    let told = fleet
        .ops
        .list_audit(&operator(), Some(tenant), None, 100)
        .await
        .unwrap();
    let noted = told
        .iter()
        .find(|entry| entry.action == "tenant.move_certified")
        .unwrap();
    assert_eq!(noted.after.as_ref(), Some(signed));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_changes_are_not_told_the_move_waits_for_the_closed_fence_and_says_why() {
    let mut options = OwnClusterOptions::default();
    options.settings.push(("wal_level".to_owned(), "replica".to_owned()));
    let own = own_cluster(options).await;
    let fleet = Fleet::empty(following()).await;
    fleet.add("one", own.cluster()).await;
    fleet.add("two", second_logical_cluster().await).await;
    let tenant = fleet.filled("acme", Isolation::Shared).await;
    let request = super::support::request("database@two");
    let plan = fleet.ops.plan_move(&operator(), &tenant.id.into(), &request).await;
    let why = plan.unwrap().held_because.unwrap();
    assert!(why.contains("wal_level = replica"), "{why}");
    let ended = fleet.moved(tenant.id, "database@two").await;
    assert_eq!(ended.state, OperationState::Done, "{ended:?}");
    assert_eq!(ended.progress["held_because"], why);
    assert!(ended.progress["held_ms"].is_u64());
    assert_eq!(fleet.streams().await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_tenant_moves_behind_the_closed_fence() {
    let fleet = logical(config()).await;
    let tenant = fleet.filled("acme", Isolation::Shared).await;
    let ended = fleet.moved(tenant.id, "database@two").await;
    assert_eq!(ended.state, OperationState::Done, "{ended:?}");
    let why = ended.progress["held_because"].as_str().unwrap();
    assert!(why.contains("fewer than 20000 rows"), "{why}");
}

/// In order; the slot is there from `slot_made` on.
const PLACES: [&str; 20] = [
    "before_follow",
    "recorded_publication",
    "recorded_slot",
    "slot_made",
    "after_follow",
    "before_catch_up",
    "after_catch_up",
    "before_compare",
    "after_compare",
    "before_close",
    "after_close",
    "before_copy",
    "after_copy",
    "before_verify",
    "after_verify",
    "before_switch",
    "after_switch",
    "before_open",
    "after_open",
    "before_remove",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_move_that_follows_its_tenant_killed_at_any_step_is_finished_by_another_process() {
    let fleet = logical(following()).await;
    let mut kills = Vec::new();
    for (place, letter) in PLACES.into_iter().zip(LETTERS) {
        let slug = format!("killed-{letter}");
        let tenant = fleet.filled(&slug, Isolation::Shared).await;
        kills.push((slug, format!("move.{place}"), tenant.id));
    }
    // A slot is made when all older transactions of the server have ended: a few at a time.
    for some in kills.chunks(6) {
        join_all(some.iter().map(|(slug, place, _)| {
            let child = Process::start(
                &fleet.catalog.url(),
                "follow-schema@two",
                slug,
                &format!("{place}=stop"),
            );
            child.gets_killed_at(place)
        }))
        .await;
    }
    let mut rows = Vec::new();
    for (number, (_, place, tenant)) in kills.iter().enumerate() {
        let traces = fleet.traces(*tenant).await;
        assert!(traces.open <= 1, "killed at {place}: {traces:?}");
        if fleet.enter(*tenant).await.is_ok() {
            // What is written before another process goes on.
            fleet.add_contact(*tenant, &format!("{number}@late.example.com")).await;
            rows.push(Some(fleet.rows(*tenant).await));
        } else {
            rows.push(None);
        }
    }
    assert!(rows.iter().flatten().count() >= 8, "{rows:?}");
    let runner = tokio::spawn({
        let ops = fleet.ops.clone();
        async move { ops.run_operations().await }
    });
    fleet.operations_end().await;
    for ((_, place, tenant), rows) in kills.into_iter().zip(rows) {
        if let Some(rows) = rows {
            assert_eq!(fleet.rows(tenant).await, rows, "killed at {place}");
        }
        assert_eq!(fleet.notes(tenant).await, 40, "killed at {place}");
        fleet.lives_once(tenant, &place).await;
        let operations = fleet
            .ops
            .list_operations(&operator(), Some(tenant), None, 1)
            .await
            .unwrap();
        let ended = &operations[0];
        assert_eq!(ended.state, OperationState::Done, "killed at {place}: {ended:?}");
        assert_eq!(fleet.open_cleanups(ended.id).await, 0, "killed at {place}");
        assert_eq!(fleet.place(tenant).await, "schema@two", "killed at {place}");
    }
    assert_eq!(fleet.streams().await, [""; 0]);
    runner.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_does_not_end_puts_it_off_and_the_copy_is_not_begun_anew() {
    let mut config = following();
    config.move_drain = Duration::from_millis(200);
    let fleet = logical(config).await;
    let tenant = fleet.filled("acme", Isolation::Shared).await;
    let busy = fleet.enter(tenant.id).await.unwrap();
    busy.batch_execute("begin; select 1").await.unwrap();
    let begun = fleet.begin_move(tenant.id, "database@two").await.unwrap();
    let moving = tokio::spawn({
        let ops = fleet.ops.clone();
        async move { ops.finish_move(&operator(), begun.id, &|_| ()).await.unwrap() }
    });
    let look = async || fleet.ops.get_operation(&operator(), begun.id).await.unwrap();
    fleet
        .poll("the move to be put off", async || {
            look().await.error_code.as_deref() == Some("tenant_in_use")
        })
        .await;
    let copied = look().await.progress["copied_ms"].clone();
    assert!(copied.is_u64());
    // Nothing that another copy would bring is at the old home when the move goes on.
    fleet
        .poll("the tenant to be served", async || fleet.enter(tenant.id).await.is_ok())
        .await;
    fleet.add_contact(tenant.id, "meanwhile@example.com").await;
    busy.batch_execute("rollback").await.unwrap();
    drop(busy);
    let ended = moving.await.unwrap();
    assert_eq!(ended.state, OperationState::Done, "{ended:?}");
    assert_eq!(ended.progress["copied_ms"], copied, "it was copied again");
    assert!(
        fleet
            .emails(tenant.id)
            .await
            .contains(&"meanwhile@example.com".to_owned())
    );
    fleet.lives_once(tenant.id, "put off").await;
    assert_eq!(fleet.streams().await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_new_homes_server_dies_the_tenant_goes_on_and_the_slot_is_dropped() {
    let mut own = own_cluster(OwnClusterOptions::default()).await;
    let mut config = following();
    config.move_attempts_max = 1;
    let fleet = Fleet::empty(config).await;
    fleet.add("one", logical_cluster().await).await;
    fleet.add("two", own.cluster()).await;
    let tenant = fleet.filled("acme", Isolation::Shared).await;
    let rows = fleet.rows(tenant.id).await;
    let place = "move.before_switch";
    let child = Process::start(
        &fleet.catalog.url(),
        "follow-database@two",
        "acme",
        &format!("{place}=stop"),
    );
    let child = child.comes_to(place).await;
    assert!(!fleet.streams().await.is_empty());
    own.kill();
    drop(child);
    let runner = tokio::spawn({
        let ops = fleet.ops.clone();
        async move { ops.run_operations().await }
    });
    fleet
        .poll("the tenant to be served", async || fleet.enter(tenant.id).await.is_ok())
        .await;
    assert_eq!(fleet.rows(tenant.id).await, rows);
    fleet
        .poll("the slot to be dropped", async || fleet.streams().await.is_empty())
        .await;
    tokio::task::block_in_place(|| own.restart());
    let settled = fleet.settled("acme").await;
    let operations = fleet
        .ops
        .list_operations(&operator(), Some(settled.id), None, 1)
        .await
        .unwrap();
    assert_eq!(operations[0].state, OperationState::Failed, "{:?}", operations[0]);
    assert_eq!(fleet.open_cleanups(operations[0].id).await, 0);
    assert_eq!(fleet.place(tenant.id).await, "shared@one");
    fleet.lives_once(tenant.id, "after the server died").await;
    runner.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn slots_and_publications_without_a_move_are_dropped() {
    let fleet = Fleet::empty(following()).await;
    fleet.add("one", logical_cluster().await).await;
    let tenant = fleet.filled("acme", Isolation::Shared).await;
    let admin = fleet.home_admin(tenant.id).await;
    let operation = OperationId::from_uuid(Uuid::now_v7());
    let name = StreamName::new(fleet.ops.catalog().installation(), operation, Direction::There);
    make_publication(&admin, &name, "app", tenant.id).await.unwrap();
    let slot = "select pg_create_logical_replication_slot($1, 'pgoutput')::text";
    admin.query_one(slot, &[&name.text()]).await.unwrap();
    assert_eq!(fleet.streams().await.len(), 2);
    let runner = tokio::spawn({
        let ops = fleet.ops.clone();
        async move { ops.run_operations().await }
    });
    fleet
        .poll("both to be dropped", async || fleet.streams().await.is_empty())
        .await;
    runner.abort();
}
