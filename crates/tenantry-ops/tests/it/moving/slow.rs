//! Moves that take longer than anybody should wait are broken off, served meanwhile, and gone on with.

use std::time::Duration;

use tenantry_core::{Isolation, OperationId};
use tenantry_ops::{Operation, OperationState};
use tenantry_testing::second_logical_cluster;
use tokio::task::JoinHandle;

use super::online::{following, logical};
use crate::{
    child::Process,
    fleet::{Fleet, operator},
};

impl Fleet {
    /// Works on a move to its end, which the answer tells.
    fn goes_on(&self, id: OperationId) -> JoinHandle<Operation> {
        let ops = self.ops.clone();
        tokio::spawn(async move { ops.finish_move(&operator(), id, &|_| ()).await.unwrap() })
    }

    /// Waits until a move was put off for this reason, and gives the sentence that goes with it.
    async fn put_off(&self, id: OperationId, code: &str) -> Operation {
        let look = async || self.ops.get_operation(&operator(), id).await.unwrap();
        self.poll(code, async || look().await.error_code.as_deref() == Some(code))
            .await;
        look().await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_over_that_takes_too_long_is_broken_off_and_the_tenant_is_served() {
    let mut config = following();
    // Who is at work is waited for, for longer than the tenant may wait.
    config.move_drain = Duration::from_secs(60);
    config.move_cut_over = Duration::from_secs(1);
    let fleet = logical(config).await;
    let tenant = fleet.filled("acme", Isolation::Shared).await.id;
    let busy = fleet.enter(tenant).await.unwrap();
    busy.batch_execute("begin; select 1").await.unwrap();
    let begun = fleet.begin_move(tenant, "schema@two").await.unwrap().id;
    let moving = fleet.goes_on(begun);
    let seen = fleet.put_off(begun, "cut_over_slow").await;
    assert!(seen.error.unwrap().contains("more than 1 s"));
    fleet
        .poll("the tenant to be served", async || fleet.enter(tenant).await.is_ok())
        .await;
    busy.batch_execute("rollback").await.unwrap();
    drop(busy);
    let ended = moving.await.unwrap();
    assert_eq!(ended.state, OperationState::Done, "{ended:?}");
    assert_eq!(
        ended.progress["copied_ms"], seen.progress["copied_ms"],
        "it was copied again"
    );
    fleet.lives_once(tenant, "broken off").await;
    assert_eq!(fleet.streams().await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_home_that_does_not_catch_up_is_left_for_later_and_the_copy_is_kept() {
    let mut config = following();
    config.move_catch_up = Duration::from_millis(500);
    let fleet = logical(config).await;
    let tenant = fleet.filled("acme", Isolation::Shared).await.id;
    let place = "move.after_follow";
    let child = Process::start(
        &fleet.catalog.url(),
        "follow-shared@two",
        "acme",
        &format!("{place}=stop"),
    );
    child.gets_killed_at(place).await;
    let begun = fleet.ops.list_operations(&operator(), Some(tenant), None, 1).await;
    let begun = begun.unwrap()[0].id;
    // The new home takes nothing in, and the tenant writes.
    let catalog = fleet.ops.catalog().client().await.unwrap();
    let sql = "select d.name from tenant_database as d join server as s on s.id = d.server
                where s.name = 'two' and d.kind = 'shared'";
    let database: String = catalog.query_one(sql, &[]).await.unwrap().get(0);
    let holder = second_logical_cluster().await.connect(&database).await;
    holder
        .batch_execute("begin; lock table app.notes in exclusive mode")
        .await
        .unwrap();
    let writer = fleet.enter(tenant).await.unwrap();
    let late = "insert into notes (contact, text) select id, 'late' from contacts limit 1";
    assert_eq!(writer.execute(late, &[]).await.unwrap(), 1);
    drop(writer);
    let rows = fleet.rows(tenant).await;
    let moving = fleet.goes_on(begun);
    let seen = fleet.put_off(begun, "too_far_behind").await;
    assert_eq!(fleet.rows(tenant).await, rows, "it is served where it was");
    holder.batch_execute("rollback").await.unwrap();
    let ended = moving.await.unwrap();
    assert_eq!(ended.state, OperationState::Done, "{ended:?}");
    assert_eq!(
        ended.progress["copied_ms"], seen.progress["copied_ms"],
        "it was copied again"
    );
    assert_eq!(fleet.rows(tenant).await, rows);
    fleet.lives_once(tenant, "left for later").await;
    assert_eq!(fleet.streams().await, [""; 0]);
}
