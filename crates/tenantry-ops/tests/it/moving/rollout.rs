//! A roll-out of migrations and a move of the same tables: one after the other, never half and half.

use tenantry_core::Isolation;
use tenantry_ops::{OperationState, Ops};
use tenantry_testing::second_cluster;
use tokio_postgres::Client;

use super::support::request;
use crate::{
    child::Process,
    fleet::{Fleet, operator, ops_on},
    migrate_killed::config,
};

/// Which version the tables of a schema have.
async fn version(client: &Client, schema: &str) -> Option<i64> {
    let sql = "select max(version) from tenantry_private.migration where schema = $1";
    client.query_one(sql, &[&schema]).await.unwrap().get(0)
}

/// A program with one migration more than the fleet has had.
async fn newer(fleet: &Fleet) -> Ops {
    let ops = ops_on(&fleet.catalog.url(), config(1)).await;
    ops.derive_migrations().await.unwrap();
    ops
}

#[tokio::test(flavor = "multi_thread")]
async fn a_roll_out_waits_for_a_move_that_is_at_work_which_goes_on_at_the_new_version() {
    let fleet = Fleet::of_two().await;
    let tenant = fleet.filled("acme", Isolation::Shared).await.id;
    let home = fleet.home_admin(tenant).await;
    let place = "move.after_copy";
    let child = Process::start(
        &fleet.catalog.url(),
        "move-schema@two",
        "acme",
        &format!("{place}=stop"),
    );
    let child = child.comes_to(place).await;
    let newer = newer(&fleet).await;
    let rolling = tokio::spawn({
        let ops = newer.clone();
        async move { ops.apply_migrations(&operator()).await.unwrap() }
    });
    fleet
        .poll("the roll-out to wait for the move", async || {
            let sql = "select exists (select from pg_locks
                                       where locktype = 'advisory' and not granted
                                         and database = (select oid from pg_database where datname = current_database()))";
            home.query_one(sql, &[]).await.unwrap().get::<_, bool>(0)
        })
        .await;
    assert_eq!(version(&home, "app").await, Some(2));
    drop(child);
    let report = rolling.await.unwrap();
    assert!(report.failed.is_empty(), "{report:?}");
    assert_eq!(version(&home, "app").await, Some(3));
    // What was copied is of the old version. The move makes the new home as the old one is now.
    let runner = tokio::spawn(async move { newer.run_operations().await });
    fleet.settled("acme").await;
    runner.abort();
    assert_eq!(fleet.place(tenant).await, "schema@two");
    let schema = fleet.found(tenant).await.placement.unwrap().schema;
    assert_eq!(version(&fleet.home_admin(tenant).await, &schema).await, Some(3));
    assert_eq!(fleet.notes(tenant).await, 40);
    fleet.lives_once(tenant, "rolled out meanwhile").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_is_refused_until_a_roll_out_has_passed_both_of_its_homes() {
    let fleet = Fleet::of_two().await;
    let tenant = fleet.filled("acme", Isolation::Shared).await.id;
    let newer = newer(&fleet).await;
    let catalog = fleet.ops.catalog().client().await.unwrap();
    let sql = "select d.name from tenant_database as d join server as s on s.id = d.server
                where s.name = 'two' and d.kind = 'shared'";
    let name: String = catalog.query_one(sql, &[]).await.unwrap().get(0);
    let there = second_cluster().await.connect(&name).await;
    // The old home is being migrated for as long as this stays open.
    let holder = fleet.home_admin(tenant).await;
    holder
        .batch_execute("begin; lock table app.contacts in access share mode")
        .await
        .unwrap();
    let rolling = tokio::spawn({
        let ops = newer.clone();
        async move { ops.apply_migrations(&operator()).await.unwrap() }
    });
    fleet
        .poll("the new home to be migrated", async || {
            version(&there, "app").await == Some(3)
        })
        .await;
    let codes = async |to: &str| -> Vec<&'static str> {
        let plan = newer.plan_move(&operator(), &tenant.into(), &request(to)).await;
        plan.unwrap().obstacles.iter().map(|one| one.code).collect()
    };
    assert_eq!(codes("schema").await, ["migrations"]);
    assert!(codes("schema@two").await.contains(&"versions"));
    holder.batch_execute("rollback").await.unwrap();
    let report = rolling.await.unwrap();
    assert!(report.failed.is_empty(), "{report:?}");
    let wish = request("schema@two");
    let begun = newer.move_tenant(&operator(), &tenant.into(), &wish, None).await;
    let ended = newer
        .finish_move(&operator(), begun.unwrap().id, &|_| ())
        .await
        .unwrap();
    assert_eq!(ended.state, OperationState::Done, "{ended:?}");
    fleet.lives_once(tenant, "after the roll-out").await;
}
