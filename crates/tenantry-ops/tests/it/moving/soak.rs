//! Moves that keep the old home in step for a while: taken back, finished, lost, killed.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use futures_util::future::join_all;
use tenantry_core::{Isolation, OperationId, TenantId};
use tenantry_ops::{FleetConfig, MoveError, Operation, OperationState, Steer, SteerError};
use tenantry_testing::{OwnClusterOptions, logical_cluster, own_cluster};

use super::{
    killed::LETTERS,
    online::{assert_all_there, following, logical, write},
    support::request,
};
use crate::{
    child::Process,
    fleet::{Fleet, operator},
};

fn soaking() -> FleetConfig {
    let mut config = following();
    config.soak_look = Duration::from_millis(100);
    config
}

impl Fleet {
    /// Moves it, and keeps the old home for so long.
    async fn soaks(&self, tenant: TenantId, to: &str, soak: Duration) -> Operation {
        let mut wish = request(to);
        wish.soak = Some(soak);
        let begun = self.ops.move_tenant(&operator(), &tenant.into(), &wish, None).await;
        let begun = begun.unwrap_or_else(|error| panic!("{to}: {error}"));
        let rests = self.ops.finish_move(&operator(), begun.id, &|_| ()).await.unwrap();
        assert_eq!(
            (rests.state, &*rests.step),
            (OperationState::Pending, "soak"),
            "{rests:?}"
        );
        rests
    }

    async fn steered(&self, id: OperationId, steer: Steer) -> Operation {
        self.ops.steer_move(&operator(), id, steer).await.unwrap();
        self.ops.finish_move(&operator(), id, &|_| ()).await.unwrap()
    }

    pub(super) fn runner(&self) -> tokio::task::JoinHandle<()> {
        let ops = self.ops.clone();
        tokio::spawn(async move { ops.run_operations().await })
    }
}

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_is_taken_back_with_all_that_it_wrote_in_its_new_home() {
    let fleet = logical(soaking()).await;
    let neighbour = fleet.filled("neighbour", Isolation::Shared).await;
    let others = fleet.rows(neighbour.id).await;
    let ways = [
        (Isolation::Shared, "database@two", "shared@one"),
        (Isolation::Database, "shared@two", "database@one"),
        (Isolation::Schema, "schema@two", "schema@one"),
    ];
    for (number, (isolation, to, from)) in ways.into_iter().enumerate() {
        let tenant = fleet.filled(&format!("acme-{}", LETTERS[number]), isolation).await.id;
        let bound = fleet.enter(tenant).await.unwrap();
        let soaks = fleet.soaks(tenant, to, HOUR).await;
        assert_eq!(fleet.place(tenant).await, to);
        assert!(
            bound.execute("select * from notes", &[]).await.is_err(),
            "the old home is closed"
        );
        let stop = AtomicBool::new(false);
        let back = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let ended = fleet.steered(soaks.id, Steer::Rollback).await;
            stop.store(true, Ordering::Relaxed);
            ended
        };
        let runner = fleet.runner();
        let (written, ended) = tokio::join!(write(&fleet, tenant, 1_000_000, &stop), back);
        runner.abort();
        assert_eq!(ended.state, OperationState::Cancelled, "{to}: {ended:?}");
        assert_eq!(ended.error_code.as_deref(), Some("rolled_back"));
        assert!(written.rows.len() > 10, "{to}");
        assert_all_there(&fleet, tenant, &written).await;
        fleet.lives_once(tenant, to).await;
        assert_eq!(fleet.place(tenant).await, from);
        let epoch = fleet.found(tenant).await.placement.unwrap().epoch;
        assert_eq!(epoch.0, 3);
        assert_eq!(fleet.open_cleanups(ended.id).await, 0, "{to}");
        assert_eq!(fleet.streams().await, [""; 0], "{to}");
        // The latest: the first one says how it went there.
        let certificate = fleet.ops.find_move_certificate(&operator(), ended.id).await.unwrap();
        assert_eq!(certificate.document(), ended.progress["back"]["certificate"]);
        let certificate = certificate.certificate;
        assert!(
            certificate["held_ms"].is_u64() && certificate["back"] == true,
            "{certificate}"
        );
        let first = ended.progress["certificate"].to_string();
        assert_eq!(fleet.ops.verify_move(&first).unwrap()["back"], false, "{ended:?}");
        let note = "insert into notes (contact, text) select id, 'after all' from contacts limit 1";
        let client = fleet.enter(tenant).await.unwrap();
        assert_eq!(client.execute(note, &[]).await.unwrap(), 1, "identities go on");
        drop(client);
        // Nothing is in the way of another one.
        fleet.moves(tenant, to).await;
    }
    assert_eq!(fleet.rows(neighbour.id).await, others);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_soak_ends_when_it_is_finished_or_its_time_is_over() {
    let fleet = logical(soaking()).await;
    for (number, soak) in [HOUR, Duration::from_secs(1)].into_iter().enumerate() {
        let tenant = fleet
            .filled(&format!("acme-{}", LETTERS[number]), Isolation::Shared)
            .await
            .id;
        let soaks = fleet.soaks(tenant, "database@two", soak).await;
        let early = fleet.ops.steer_move(&operator(), soaks.id, Steer::Abort).await;
        assert!(matches!(early, Err(SteerError::TooLate { soaks: true })), "{early:?}");
        if soak == HOUR {
            let ended = fleet.steered(soaks.id, Steer::Finish).await;
            assert_eq!(ended.state, OperationState::Done, "{ended:?}");
        } else {
            let runner = fleet.runner();
            fleet.operations_end().await;
            runner.abort();
        }
        let ended = fleet.ops.get_operation(&operator(), soaks.id).await.unwrap();
        assert_eq!(ended.state, OperationState::Done, "{ended:?}");
        assert_eq!(fleet.open_cleanups(ended.id).await, 0);
        fleet.lives_once(tenant, "finished").await;
        let late = fleet.ops.steer_move(&operator(), soaks.id, Steer::Rollback).await;
        assert!(matches!(late, Err(SteerError::Ended { .. })), "{late:?}");
    }
    assert_eq!(fleet.streams().await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_soak_that_can_not_be_is_refused_before_anything_is_made() {
    let mut options = OwnClusterOptions::default();
    options.settings.push(("wal_level".to_owned(), "replica".to_owned()));
    let own = own_cluster(options).await;
    let fleet = Fleet::empty(soaking()).await;
    fleet.add("one", logical_cluster().await).await;
    fleet.add("two", own.cluster()).await;
    let tenant = fleet.filled("acme", Isolation::Shared).await.id;
    for (to, why) in [("schema", "in one database"), ("database@two", "wal_level = replica")] {
        let mut wish = request(to);
        wish.soak = Some(HOUR);
        let refused = fleet.ops.move_tenant(&operator(), &tenant.into(), &wish, None).await;
        let Err(MoveError::Obstacles(obstacles)) = refused else {
            panic!("{refused:?}")
        };
        assert_eq!(obstacles.len(), 1, "{obstacles:?}");
        assert_eq!(obstacles[0].code, "soak");
        assert!(obstacles[0].what.contains(why), "{obstacles:?}");
    }
    let mut wish = request("database@two");
    wish.soak = Some(HOUR * 24 * 31);
    let refused = fleet.ops.move_tenant(&operator(), &tenant.into(), &wish, None).await;
    assert!(matches!(refused, Err(MoveError::SoakTooLong)), "{refused:?}");
    assert_eq!(fleet.place(tenant).await, "shared@one");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_home_whose_tables_change_has_no_way_back_and_its_old_home_stays_until_the_soak_ends() {
    let fleet = logical(soaking()).await;
    let tenant = fleet.filled("acme", Isolation::Shared).await.id;
    let soaks = fleet.soaks(tenant, "database@two", HOUR).await;
    let admin = fleet.home_admin(tenant).await;
    admin
        .batch_execute("alter table app.notes add column more int")
        .await
        .unwrap();
    let client = fleet.enter(tenant).await.unwrap();
    let note = "insert into notes (contact, text) select id, 'new' from contacts limit 1";
    client.execute(note, &[]).await.unwrap();
    let runner = fleet.runner();
    fleet
        .poll("the way back to be lost", async || {
            let found = fleet.ops.get_operation(&operator(), soaks.id).await.unwrap();
            found.progress["way_back_lost"].is_string() && fleet.streams().await.is_empty()
        })
        .await;
    let refused = fleet.ops.steer_move(&operator(), soaks.id, Steer::Rollback).await;
    assert!(matches!(refused, Err(SteerError::NoWayBack { .. })), "{refused:?}");
    let traces = fleet.traces(tenant).await;
    assert_eq!((traces.open, traces.notes.len()), (1, 2), "{traces:?}");
    fleet
        .ops
        .steer_move(&operator(), soaks.id, Steer::Finish)
        .await
        .unwrap();
    fleet.operations_end().await;
    runner.abort();
    fleet.lives_once(tenant, "finished").await;
}

/// In order, of the way back.
const PLACES: [&str; 9] = [
    "before_back_prepare",
    "after_back_prepare",
    "after_back_compare",
    "after_back_close",
    "after_back_copy",
    "before_back_switch",
    "after_back_switch",
    "after_back_open",
    "before_back_remove",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_way_back_killed_at_any_step_is_finished_by_another_process() {
    let fleet = logical(soaking()).await;
    let mut kills = Vec::new();
    for (place, letter) in PLACES.into_iter().zip(LETTERS) {
        let slug = format!("killed-{letter}");
        let tenant = fleet.filled(&slug, Isolation::Shared).await.id;
        kills.push((slug, format!("move.{place}"), tenant));
    }
    let moved = kills
        .iter()
        .map(|(_, _, tenant)| fleet.soaks(*tenant, "schema@two", HOUR));
    let soaks = join_all(moved).await;
    for (_, _, tenant) in &kills {
        fleet.add_contact(*tenant, "there@example.com").await;
    }
    join_all(kills.iter().map(|(slug, place, _)| {
        let child = Process::start(&fleet.catalog.url(), "take-back", slug, &format!("{place}=stop"));
        child.gets_killed_at(place)
    }))
    .await;
    for (_, place, tenant) in &kills {
        let open = fleet.traces(*tenant).await.open;
        assert!(open <= 1, "killed at {place}: {open} homes are open");
    }
    let runner = fleet.runner();
    fleet.operations_end().await;
    runner.abort();
    for ((_, place, tenant), soaks) in kills.iter().zip(&soaks) {
        let ended = fleet.ops.get_operation(&operator(), soaks.id).await.unwrap();
        assert_eq!(ended.state, OperationState::Cancelled, "killed at {place}: {ended:?}");
        assert_eq!(ended.error_code.as_deref(), Some("rolled_back"), "killed at {place}");
        assert_eq!(fleet.place(*tenant).await, "shared@one", "killed at {place}");
        assert!(
            fleet.emails(*tenant).await.contains(&"there@example.com".to_owned()),
            "killed at {place}"
        );
        fleet.lives_once(*tenant, place).await;
        assert_eq!(fleet.open_cleanups(ended.id).await, 0, "killed at {place}");
    }
    assert_eq!(fleet.streams().await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_that_soaks_killed_at_its_new_steps_is_gone_on_with() {
    let fleet = logical(soaking()).await;
    let mut kills = Vec::new();
    let places = [
        "before_way_back",
        "after_way_back",
        "after_copy",
        "after_open",
        "before_soak",
        "after_soak",
    ];
    for (place, letter) in places.into_iter().zip(LETTERS) {
        let slug = format!("killed-{letter}");
        let tenant = fleet.filled(&slug, Isolation::Shared).await.id;
        kills.push((slug, format!("move.{place}"), tenant));
    }
    join_all(kills.iter().map(|(slug, place, _)| {
        let child = Process::start(&fleet.catalog.url(), "soak-schema@two", slug, &format!("{place}=stop"));
        child.gets_killed_at(place)
    }))
    .await;
    let runner = fleet.runner();
    fleet.operations_end().await;
    runner.abort();
    for (_, place, tenant) in &kills {
        let newest = fleet
            .ops
            .list_operations(&operator(), Some(*tenant), None, 1)
            .await
            .unwrap();
        assert_eq!(
            newest[0].state,
            OperationState::Done,
            "killed at {place}: {:?}",
            newest[0]
        );
        assert_eq!(fleet.place(*tenant).await, "schema@two", "killed at {place}");
        fleet.lives_once(*tenant, place).await;
        assert_eq!(fleet.open_cleanups(newest[0].id).await, 0, "killed at {place}");
    }
    assert_eq!(fleet.streams().await, [""; 0]);
}
