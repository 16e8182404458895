//! More than one process that works on operations.

use std::{process::Command, time::Duration};

use futures_util::future::join_all;
use tenantry_core::{Isolation, TenantState};
use tenantry_ops::OperationState;

use crate::{
    child::Process,
    fleet::{Fleet, config, operator, ops_on},
};

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_share_the_work_and_do_nothing_twice() {
    let fleet = Fleet::start().await;
    // Left behind by processes that died, so that nobody waits for them.
    let slugs: Vec<String> = ('a'..'g').map(|letter| format!("shared-{letter}")).collect();
    let isolations = Isolation::ALL.into_iter().cycle();
    let kills = slugs.iter().zip(isolations).map(|(slug, isolation)| {
        let first = tenantry_ops::steps(tenantry_ops::OperationKind::Provision, isolation)[0];
        let place = format!("provision.before_{first}");
        let child = Process::start(
            &fleet.catalog.url(),
            &format!("create-{isolation}"),
            slug,
            &format!("{place}=stop"),
        );
        async move { child.gets_killed_at(&place).await }
    });
    join_all(kills).await;
    let _one = Process::start(&fleet.catalog.url(), "run", "", "");
    let _two = Process::start(&fleet.catalog.url(), "run", "", "");
    let here = tokio::spawn({
        let ops = ops_on(&fleet.catalog.url(), config()).await;
        async move { ops.run_operations().await }
    });
    for slug in &slugs {
        let tenant = fleet.settled(slug).await;
        assert_eq!(tenant.state, TenantState::Active);
        assert_eq!(fleet.emails(tenant.id).await, ["help@example.com"], "{slug}");
        let operations = fleet
            .ops
            .list_operations(&operator(), Some(tenant.id), None, 10)
            .await
            .unwrap();
        assert_eq!(
            operations.iter().map(|operation| operation.state).collect::<Vec<_>>(),
            [OperationState::Done]
        );
    }
    here.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_sleeps_over_its_lease_changes_nothing_when_it_wakes() {
    let fleet = Fleet::start().await;
    let places = [
        (Isolation::Shared, "provision.before_rows"),
        (Isolation::Shared, "provision.after_rows"),
        (Isolation::Schema, "provision.recorded_schema"),
        (Isolation::Schema, "provision.after_schema"),
        (Isolation::Database, "provision.recorded_database"),
        (Isolation::Database, "provision.before_tables"),
        // Asleep with the turn taken: its sessions are ended.
        (Isolation::Schema, "provision.in_turn"),
        (Isolation::Database, "provision.in_turn"),
    ];
    let mut asleep = Vec::new();
    for (number, (isolation, place)) in places.into_iter().enumerate() {
        let slug = format!("asleep-{}", (b'a' + number as u8) as char);
        let mut child = Process::start(
            &fleet.catalog.url(),
            &format!("create-{isolation}"),
            &slug,
            &format!("{place}=nap"),
        );
        let child = tokio::task::spawn_blocking(move || {
            assert!(child.stops_at(place));
            child.signal("STOP");
            child
        });
        asleep.push((slug, place, child.await.unwrap()));
    }
    let runner = tokio::spawn({
        let ops = fleet.ops.clone();
        async move { ops.run_operations().await }
    });
    for (slug, place, child) in asleep {
        let tenant = fleet.settled(&slug).await;
        assert_eq!(tenant.state, TenantState::Active, "{place}");
        fleet.add_contact(tenant.id, "new@example.com").await;
        // It wakes with the nap over, and goes on where it was: with a lease that it has lost.
        child.signal("CONT");
        child.ends().await;
        assert_eq!(
            fleet.emails(tenant.id).await,
            ["help@example.com", "new@example.com"],
            "{place}"
        );
        let operations = fleet
            .ops
            .list_operations(&operator(), Some(tenant.id), None, 10)
            .await
            .unwrap();
        assert_eq!(operations.len(), 1, "{place}");
        assert_eq!(
            (operations[0].state, &operations[0].error),
            (OperationState::Done, &None),
            "{place}"
        );
    }
    runner.abort();
}

impl Process {
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .args([&format!("-{name}"), &self.id().to_string()])
            .status()
            .unwrap();
        assert!(sent.success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_request_with_the_same_key_is_the_same_request() {
    let fleet = Fleet::start().await;
    let request = crate::fleet::request("acme", Isolation::Schema);
    let create = || async { fleet.ops.create_tenant(&operator(), &request, Some("key-1")).await };
    let (one, two, three) = tokio::join!(create(), create(), create());
    let ids = [one.unwrap().id, two.unwrap().id, three.unwrap().id];
    assert!(ids.iter().all(|id| *id == ids[0]));
    assert_eq!(create().await.unwrap().id, ids[0]);
    let other = crate::fleet::request("other", Isolation::Schema);
    let reused = fleet.ops.create_tenant(&operator(), &other, Some("key-1")).await;
    assert!(matches!(reused, Err(tenantry_ops::TenantError::KeyReused)));
    for bad in ["", &"k".repeat(256)] {
        let refused = fleet.ops.create_tenant(&operator(), &other, Some(bad)).await;
        assert!(matches!(refused, Err(tenantry_ops::TenantError::KeyMalformed)));
    }
    fleet
        .ops
        .create_tenant(&operator(), &other, Some("key-2"))
        .await
        .unwrap();
    tokio::time::timeout(Duration::from_secs(5), fleet.operations_end())
        .await
        .unwrap();
}
