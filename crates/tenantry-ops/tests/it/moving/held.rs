//! What others do meanwhile: transactions that don't end, a second runner, exports, new tenants.

use std::time::Duration;

use futures_util::future::join_all;
use tenantry_core::Isolation;
use tenantry_ops::{ArchiveError, ExportOptions, OperationState, PortError};

use super::killed::LETTERS;
use crate::{
    child::Process,
    fleet::{Fleet, config, operator, ops_on},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_does_not_end_puts_the_move_off_and_the_tenant_is_served() {
    let mut config = config();
    config.move_drain = Duration::from_millis(200);
    let fleet = Fleet::start_with(config).await;
    for isolation in ["schema", "database"] {
        let tenant = fleet.filled(&format!("acme-{isolation}"), Isolation::Shared).await;
        let busy = fleet.enter(tenant.id).await.unwrap();
        busy.batch_execute("begin; select 1").await.unwrap();
        let begun = fleet.begin_move(tenant.id, isolation).await.unwrap();
        let moving = tokio::spawn({
            let ops = fleet.ops.clone();
            async move { ops.finish_move(&operator(), begun.id, &|_| ()).await.unwrap() }
        });
        fleet
            .poll("the move to be put off", async || {
                let found = fleet.ops.get_operation(&operator(), begun.id).await.unwrap();
                found.error_code.as_deref() == Some("tenant_in_use")
            })
            .await;
        fleet
            .poll("the tenant to be served", async || fleet.enter(tenant.id).await.is_ok())
            .await;
        busy.batch_execute("rollback").await.unwrap();
        drop(busy);
        assert_eq!(moving.await.unwrap().state, OperationState::Done);
        fleet.lives_once(tenant.id, isolation).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn by_force_the_sessions_that_hold_transactions_are_ended() {
    let mut config = config();
    config.move_drain = Duration::from_millis(200);
    let fleet = Fleet::start_with(config).await;
    for to in ["schema", "database"] {
        let tenant = fleet.filled(&format!("acme-{to}"), Isolation::Shared).await;
        let busy = fleet.enter(tenant.id).await.unwrap();
        busy.batch_execute("begin; select 1").await.unwrap();
        let mut request = super::support::request(to);
        request.force = true;
        let begun = fleet
            .ops
            .move_tenant(&operator(), &tenant.id.into(), &request, None)
            .await
            .unwrap();
        let ended = fleet.ops.finish_move(&operator(), begun.id, &|_| ()).await.unwrap();
        assert_eq!(ended.state, OperationState::Done, "{ended:?}");
        assert_eq!(ended.attempts, 1);
        assert!(busy.batch_execute("commit").await.is_err());
        fleet.lives_once(tenant.id, to).await;
    }
}

/// The first one is asleep over its step until its lease has run out.
#[tokio::test(flavor = "multi_thread")]
async fn two_runners_of_one_move_end_in_one_home() {
    let fleet = Fleet::of_two().await;
    let places = ["after_close", "after_copy", "before_switch", "after_switch"];
    let stopped = join_all(places.into_iter().zip(LETTERS).map(async |(place, letter)| {
        let slug = format!("two-{letter}");
        let tenant = fleet.filled(&slug, Isolation::Shared).await;
        let rows = fleet.rows(tenant.id).await;
        let stop = format!("move.{place}");
        let child = Process::start(&fleet.catalog.url(), "move-database@two", &slug, &format!("{stop}=nap"));
        let child = child.comes_to(&stop).await;
        signal("-STOP", &child);
        (place, slug, tenant.id, rows, child)
    }))
    .await;
    let runner = fleet.runner();
    join_all(stopped.into_iter().map(async |(place, slug, tenant, rows, child)| {
        fleet.settled(&slug).await;
        signal("-CONT", &child);
        assert_eq!(fleet.rows(tenant).await, rows, "{place}");
        fleet.lives_once(tenant, place).await;
        drop(child);
        assert_eq!(fleet.place(tenant).await, "database@two");
        fleet.lives_once(tenant, place).await;
    }))
    .await;
    runner.abort();
}

fn signal(name: &str, child: &Process) {
    let id = child.id().to_string();
    assert!(
        std::process::Command::new("kill")
            .args([name, &id])
            .status()
            .unwrap()
            .success()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_else_works_on_a_tenant_that_moves() {
    let fleet = Fleet::start().await;
    let tenant = fleet.filled("acme", Isolation::Shared).await;
    let begun = fleet.begin_move(tenant.id, "schema").await.unwrap();
    assert!(fleet.ops.suspend_tenant(&operator(), &tenant.id.into()).await.is_err());
    assert!(fleet.ops.delete_tenant(&operator(), &tenant.id.into()).await.is_err());
    let ended = fleet.ops.finish_move(&operator(), begun.id, &|_| ()).await.unwrap();
    assert_eq!(ended.state, OperationState::Done);
}

/// While a tenant waits for its move: nobody takes an archive of it, which would be of the home that it leaves, and others come and go.
#[tokio::test(flavor = "multi_thread")]
async fn who_exports_is_told_to_try_again_and_who_comes_does_not_wait() {
    let fleet = Fleet::of_two().await;
    let tenant = fleet.filled("acme", Isolation::Shared).await;
    let rows = fleet.rows(tenant.id).await;
    let child = Process::start(&fleet.catalog.url(), "move-shared@two", "acme", "move.after_copy=stop");
    let child = child.comes_to("move.after_copy").await;
    let export = async || {
        let file = tempfile::tempfile().unwrap();
        let (by, options) = (operator(), ExportOptions::default());
        fleet
            .ops
            .export_tenant(&by, &tenant.id.into(), file, options, &mut |_, _, _| {})
            .await
            .map(drop)
    };
    let error = export().await.unwrap_err();
    assert!(matches!(error, PortError::Archive(ArchiveError::Moved)), "{error}");
    // In the databases of both homes.
    for (slug, isolation) in [("new-shared", Isolation::Shared), ("new-schema", Isolation::Schema)] {
        let new = fleet.create(slug, isolation).await.unwrap();
        assert!(fleet.enter(new.id).await.is_ok());
    }
    drop(child);
    let ops = ops_on(&fleet.catalog.url(), config()).await;
    let runner = tokio::spawn(async move { ops.run_operations().await });
    fleet.settled("acme").await;
    runner.abort();
    assert_eq!(fleet.place(tenant.id).await, "shared@two");
    assert_eq!(fleet.rows(tenant.id).await, rows);
    export().await.unwrap();
}
