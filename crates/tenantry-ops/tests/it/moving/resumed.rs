//! A copy that is broken off goes on with the tables that are left.

use tenantry_core::Isolation;
use tenantry_ops::OperationState;
use tenantry_testing::second_logical_cluster;

use super::online::{following, logical};
use crate::{
    child::Process,
    fleet::{Fleet, operator},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_was_killed_keeps_its_tables_and_what_was_changed_in_them_since() {
    let fleet: Fleet = logical(following()).await;
    let tenant = fleet.filled("acme", Isolation::Shared).await.id;
    let catalog = fleet.ops.catalog().client().await.unwrap();
    let sql = "select d.name from tenant_database as d join server as s on s.id = d.server
                where s.name = 'two' and d.kind = 'shared'";
    let database: String = catalog.query_one(sql, &[]).await.unwrap().get(0);
    let there = second_logical_cluster().await.connect(&database).await;
    // Notes come after the contacts that they refer to, and find no place as long as this is open.
    let holder = second_logical_cluster().await.connect(&database).await;
    let lock = "begin; lock table app.notes in exclusive mode";
    holder.batch_execute(lock).await.unwrap();
    let child = Process::start(&fleet.catalog.url(), "follow-shared@two", "acme", "");
    fleet
        .poll("the contacts to be copied", async || {
            let copied = there.query_one("select count(*) from tenantry_move.copied", &[]).await;
            copied.is_ok_and(|row| row.get::<_, i64>(0) == 1)
        })
        .await;
    drop(child);
    let client = fleet.enter(tenant).await.unwrap();
    for sql in [
        "update contacts set name = 'changed'",
        "insert into contacts (email, name) values ('late@example.com', 'late')",
        "insert into contacts (email, name) values ('brief@example.com', 'brief')",
        "delete from contacts where email = 'brief@example.com'",
        "insert into notes (contact, text) select id, 'late' from contacts limit 1",
        "delete from notes where text = '3'",
        "update notes set text = 'changed' where text = '4'",
    ] {
        client
            .execute(sql, &[])
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }
    drop(client);
    let rows = fleet.rows(tenant).await;
    holder.batch_execute("rollback").await.unwrap();
    let runner = tokio::spawn({
        let ops = fleet.ops.clone();
        async move { ops.run_operations().await }
    });
    fleet.settled("acme").await;
    runner.abort();
    let newest = fleet.ops.list_operations(&operator(), Some(tenant), None, 1).await;
    let ended = newest.unwrap().remove(0);
    assert_eq!(ended.state, OperationState::Done, "{ended:?}");
    assert_eq!(ended.progress["tables_kept"], 1, "it was copied anew: {ended:?}");
    assert_eq!(fleet.place(tenant).await, "shared@two");
    assert_eq!(fleet.rows(tenant).await, rows);
    fleet.lives_once(tenant, "resumed").await;
    assert_eq!(fleet.streams().await, [""; 0]);
    let left: i64 = there
        .query_one("select count(*) from tenantry_move.copied", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(left, 0);
}
