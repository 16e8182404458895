//! A process is killed at every step of a move, and another one goes on: exactly one home is open, and every row is there once.

use futures_util::future::join_all;
use tenantry_core::Isolation;
use tenantry_ops::{MoveStep, OperationState};

use crate::{
    child::Process,
    fleet::{Fleet, operator},
};

/// Without those that look like another one, which slugs may not differ by.
pub(super) const LETTERS: [char; 20] = [
    'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'j', 'k', 'm', 'n', 'p', 'q', 'r', 's', 't', 'x', 'y', 'z',
];

/// Every place where a move can be killed, in order.
fn places(object: &str) -> Vec<String> {
    let mut places = Vec::new();
    for step in MoveStep::STRAIGHT {
        // Nothing is done there where the copy has to wait.
        if matches!(step, MoveStep::Compare | MoveStep::WayBack) {
            continue;
        }
        places.push(format!("move.before_{step}"));
        if step == MoveStep::Prepare {
            places.push(format!("move.recorded_{object}"));
        }
        // The last step ends the operation.
        if step != MoveStep::Remove {
            places.push(format!("move.after_{step}"));
        }
    }
    places
}

/// At every third place, another one for each way: over the five ways each place comes up at least once. `TENANTRY_EVERY_KILL=1` takes them all
/// for each.
async fn a_killed_move_is_finished(isolation: Isolation, to: &str, object: &str, way: usize) {
    let fleet = Fleet::of_two().await;
    let is_whole = std::env::var_os("TENANTRY_EVERY_KILL").is_some();
    let places = places(object).into_iter().enumerate();
    let mut kills = Vec::new();
    for (number, place) in places.filter(|(number, _)| is_whole || number % 3 == way % 3) {
        let slug = format!("killed-{}", LETTERS[number]);
        let tenant = fleet.filled(&slug, isolation).await;
        let rows = fleet.rows(tenant.id).await;
        kills.push((slug, place, tenant.id, rows));
    }
    // Not all at once: each is a process with connections of its own, beside those of other tests.
    for some in kills.chunks(10) {
        join_all(some.iter().map(|(slug, place, ..)| {
            let child = Process::start(
                &fleet.catalog.url(),
                &format!("move-{to}"),
                slug,
                &format!("{place}=stop"),
            );
            child.gets_killed_at(place)
        }))
        .await;
    }
    for (_, place, tenant, _) in &kills {
        let open = fleet.traces(*tenant).await.open;
        assert!(open <= 1, "killed at {place}: {open} homes are open");
    }
    let runner = tokio::spawn({
        let ops = fleet.ops.clone();
        async move { ops.run_operations().await }
    });
    fleet.operations_end().await;
    for (_, place, tenant, rows) in kills {
        assert_eq!(fleet.rows(tenant).await, rows, "killed at {place}");
        fleet.lives_once(tenant, &place).await;
        let operations = fleet
            .ops
            .list_operations(&operator(), Some(tenant), None, 1)
            .await
            .unwrap();
        assert_eq!(
            operations[0].state,
            OperationState::Done,
            "killed at {place}: {:?}",
            operations[0]
        );
        assert_eq!(fleet.open_cleanups(operations[0].id).await, 0, "killed at {place}");
        let isolation = to.split('@').next().unwrap();
        assert_eq!(
            fleet.found(tenant).await.placement.unwrap().isolation.as_str(),
            isolation,
            "killed at {place}"
        );
    }
    runner.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_within_a_database_killed_at_any_step_is_finished_by_another_process() {
    a_killed_move_is_finished(Isolation::Shared, "schema", "schema", 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_back_into_shared_tables_killed_at_any_step_is_finished_by_another_process() {
    a_killed_move_is_finished(Isolation::Schema, "shared", "rows", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_to_another_server_killed_at_any_step_is_finished_by_another_process() {
    a_killed_move_is_finished(Isolation::Shared, "shared@two", "rows", 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_into_an_own_database_killed_at_any_step_is_finished_by_another_process() {
    a_killed_move_is_finished(Isolation::Schema, "database@two", "database", 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_out_of_an_own_database_killed_at_any_step_is_finished_by_another_process() {
    a_killed_move_is_finished(Isolation::Database, "schema@two", "schema", 4).await;
}

/// Fails for good at each step before the switch, at two of them each way, and is killed while it is undone.
#[tokio::test(flavor = "multi_thread")]
async fn a_move_that_fails_and_is_killed_while_it_is_undone_leaves_the_tenant_where_it_was() {
    let fleet = Fleet::of_two().await;
    let ways = [
        (Isolation::Shared, "schema", "schema"),
        (Isolation::Schema, "shared@two", "rows"),
        (Isolation::Shared, "database@two", "database"),
    ];
    let failures = ["after_prepare", "after_close", "after_copy", "before_switch"];
    let mut all = Vec::new();
    for (way, (isolation, to, object)) in ways.into_iter().enumerate() {
        for (number, place) in failures.into_iter().enumerate().skip(way % 2).step_by(2) {
            let slug = format!(
                "undone-{}-{}",
                (b'a' + way as u8) as char,
                (b'a' + number as u8) as char
            );
            let tenant = fleet.filled(&slug, isolation).await;
            let rows = fleet.rows(tenant.id).await;
            all.push((slug, to, object, place, tenant.id, rows));
        }
    }
    join_all(all.iter().map(|(slug, to, object, place, ..)| {
        let stop = format!("move.undo_{object}");
        let failpoints = format!("move.{place}=fail,{stop}=stop");
        let child = Process::start(&fleet.catalog.url(), &format!("move-{to}"), slug, &failpoints);
        async move { child.gets_killed_at(&stop).await }
    }))
    .await;
    let runner = tokio::spawn({
        let ops = fleet.ops.clone();
        async move { ops.run_operations().await }
    });
    fleet.operations_end().await;
    runner.abort();
    for (slug, to, _, place, tenant, rows) in &all {
        assert_eq!(fleet.rows(*tenant).await, *rows, "{slug} {place}");
        fleet.lives_once(*tenant, slug).await;
        let operations = fleet
            .ops
            .list_operations(&operator(), Some(*tenant), None, 1)
            .await
            .unwrap();
        assert_eq!(operations[0].state, OperationState::Failed, "{slug} {place}");
        assert_eq!(fleet.open_cleanups(operations[0].id).await, 0, "{slug} {place}");
        assert_eq!(
            fleet.found(*tenant).await.placement.unwrap().epoch.0,
            1,
            "{slug} {place}"
        );
        // Nothing is in the way of another attempt.
        fleet.moves(*tenant, to).await;
        assert_eq!(fleet.rows(*tenant).await, *rows, "{slug} {place}");
    }
}
