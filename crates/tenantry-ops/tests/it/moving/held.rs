//! What others do meanwhile: transactions that don't end, a second runner, a migration of the fleet.

use std::time::Duration;

use tenantry_core::Isolation;
use tenantry_ops::OperationState;

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
    for (number, place) in ["after_close", "after_copy", "before_switch", "after_switch"]
        .into_iter()
        .enumerate()
    {
        let slug = format!("two-{}", (b'a' + number as u8) as char);
        let tenant = fleet.filled(&slug, Isolation::Shared).await;
        let rows = fleet.rows(tenant.id).await;
        let stop = format!("move.{place}");
        let child = Process::start(&fleet.catalog.url(), "move-database@two", &slug, &format!("{stop}=nap"));
        let child = child.comes_to(&stop).await;
        let id = child.id().to_string();
        let signal = |name: &'static str| {
            std::process::Command::new("kill")
                .args([name, id.as_str()])
                .status()
                .unwrap()
        };
        assert!(signal("-STOP").success());
        let ops = ops_on(&fleet.catalog.url(), config()).await;
        let runner = tokio::spawn(async move { ops.run_operations().await });
        fleet.settled(&slug).await;
        assert!(signal("-CONT").success());
        assert_eq!(fleet.rows(tenant.id).await, rows, "{place}");
        fleet.lives_once(tenant.id, place).await;
        drop(child);
        assert_eq!(fleet.place(tenant.id).await, "database@two");
        fleet.lives_once(tenant.id, place).await;
        runner.abort();
    }
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
