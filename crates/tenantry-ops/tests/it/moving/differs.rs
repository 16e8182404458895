//! A copy that somebody has put wrong becomes nobody's home.

use tenantry_core::Isolation;
use tenantry_ops::OperationState;
use tenantry_testing::second_logical_cluster;

use super::online::{following, logical};
use crate::{
    child::Process,
    fleet::{Fleet, operator},
};

/// While the tenant works, and behind the closed fence where the copy was made there.
const WAYS: [(&str, &str); 2] = [
    ("follow-shared@two", "move.before_compare"),
    ("move-shared@two", "move.before_verify"),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_differs_is_told_by_its_rows_and_the_tenant_stays() {
    let fleet: Fleet = logical(following()).await;
    let catalog = fleet.ops.catalog().client().await.unwrap();
    let sql = "select d.name from tenant_database as d join server as s on s.id = d.server
                where s.name = 'two' and d.kind = 'shared'";
    let database: String = catalog.query_one(sql, &[]).await.unwrap().get(0);
    let there = second_logical_cluster().await.connect(&database).await;
    for (slug, (act, place)) in ["differs-a", "differs-b"].into_iter().zip(WAYS) {
        let tenant = fleet.filled(slug, Isolation::Shared).await.id;
        let rows = fleet.rows(tenant).await;
        let child = Process::start(&fleet.catalog.url(), act, slug, &format!("{place}=nap"));
        let child = child.comes_to(place).await;
        let wrong =
            "update app.contacts set name = 'another' where tenant_id = $1 and name = 'Help' returning id::text";
        let row = there.query_one(wrong, &[tenant.as_uuid()]).await.unwrap();
        let id: String = row.get(0);
        fleet.operations_end().await;
        drop(child);
        let newest = fleet.ops.list_operations(&operator(), Some(tenant), None, 1).await;
        let ended = newest.unwrap().remove(0);
        assert_eq!(ended.state, OperationState::Failed, "{place}: {ended:?}");
        assert_eq!(ended.error_code.as_deref(), Some("copy_differs"), "{place}");
        let error = ended.error.unwrap();
        assert!(
            error.contains("contacts (2 rows there, 2 here; among them ") && error.contains(&id),
            "{place}: {error}"
        );
        assert_eq!(fleet.place(tenant).await, "shared@one", "{place}");
        assert_eq!(fleet.rows(tenant).await, rows, "{place}");
        fleet.lives_once(tenant, place).await;
        assert_eq!(fleet.open_cleanups(ended.id).await, 0, "{place}");
    }
    assert_eq!(fleet.streams().await, [""; 0]);
}
