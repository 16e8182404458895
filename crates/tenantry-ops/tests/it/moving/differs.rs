//! A copy that somebody has put wrong becomes nobody's home.

use tenantry_core::{Isolation, TenantId};
use tenantry_ops::{Operation, OperationState};
use tenantry_testing::second_logical_cluster;

use super::online::{following, logical};
use crate::{
    child::Process,
    fleet::{Fleet, operator},
};

/// A tenant whose copy at the other server somebody has put wrong.
struct PutWrong {
    tenant: TenantId,
    /// What it holds.
    rows: String,
    /// Of the row that is wrong.
    id: String,
}

/// On its way, at this place.
async fn put_wrong(fleet: &Fleet, slug: &str, act: &str, place: &str) -> PutWrong {
    let catalog = fleet.ops.catalog().client().await.unwrap();
    let sql = "select d.name from tenant_database as d join server as s on s.id = d.server
                where s.name = 'two' and d.kind = 'shared'";
    let database: String = catalog.query_one(sql, &[]).await.unwrap().get(0);
    let there = second_logical_cluster().await.connect(&database).await;
    let tenant = fleet.filled(slug, Isolation::Shared).await.id;
    let rows = fleet.rows(tenant).await;
    let child = Process::start(&fleet.catalog.url(), act, slug, &format!("{place}=nap"));
    let child = child.comes_to(place).await;
    let wrong = "update app.contacts set name = 'another' where tenant_id = $1 and name = 'Help' returning id::text";
    let row = there.query_one(wrong, &[tenant.as_uuid()]).await.unwrap();
    fleet.operations_end().await;
    drop(child);
    let id = row.get(0);
    PutWrong { tenant, rows, id }
}

async fn newest(fleet: &Fleet, tenant: TenantId) -> Operation {
    let newest = fleet.ops.list_operations(&operator(), Some(tenant), None, 1).await;
    newest.unwrap().remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_differs_is_told_by_its_rows_and_the_tenant_stays() {
    let fleet: Fleet = logical(following()).await;
    let PutWrong { tenant, rows, id } = put_wrong(&fleet, "differs", "follow-shared@two", "move.before_compare").await;
    let ended = newest(&fleet, tenant).await;
    assert_eq!(ended.state, OperationState::Failed, "{ended:?}");
    assert_eq!(ended.error_code.as_deref(), Some("copy_differs"));
    let error = ended.error.unwrap();
    assert!(
        error.contains("contacts (2 rows there, 2 here; among them ") && error.contains(&id),
        "{error}"
    );
    assert_eq!(fleet.place(tenant).await, "shared@one");
    assert_eq!(fleet.rows(tenant).await, rows);
    fleet.lives_once(tenant, "differs").await;
    assert_eq!(fleet.open_cleanups(ended.id).await, 0);
    assert_eq!(fleet.streams().await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_whose_tenant_is_not_followed_is_levelled_behind_the_closed_fence() {
    let fleet: Fleet = logical(following()).await;
    let PutWrong { tenant, rows, .. } = put_wrong(&fleet, "levelled", "move-shared@two", "move.before_copy").await;
    let ended = newest(&fleet, tenant).await;
    assert_eq!(ended.state, OperationState::Done, "{ended:?}");
    assert_eq!(ended.progress["brought_again"], 1);
    assert_eq!(fleet.place(tenant).await, "shared@two");
    assert_eq!(fleet.rows(tenant).await, rows);
    fleet.lives_once(tenant, "levelled").await;
}
