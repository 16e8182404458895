//! What a move that has ended may have left: found by its record, and by its name.

use tenantry_core::{Isolation, OperationId, TenantId};
use tenantry_engine::transfer::stream::{Direction, StreamName, make_publication};
use tenantry_ops::Verdict;
use tenantry_testing::logical_cluster;
use uuid::Uuid;

use super::online::following;
use crate::fleet::{Fleet, operator};

/// A publication, and a slot where that is wanted, as a move has made them that an operator called off.
async fn left_behind(fleet: &Fleet, tenant: TenantId, recorded: bool) -> StreamName {
    let admin = fleet.home_admin(tenant).await;
    let operation = OperationId::from_uuid(Uuid::now_v7());
    let name = StreamName::new(fleet.ops.catalog().installation(), operation, Direction::There);
    make_publication(&admin, &name, "app", tenant).await.unwrap();
    let catalog = fleet.ops.catalog().client().await.unwrap();
    catalog
        .execute(
            "insert into operation (id, kind, tenant, state, finished_at) values ($1, 'move', $2, 'cancelled', now())",
            &[operation.as_uuid(), tenant.as_uuid()],
        )
        .await
        .unwrap();
    if recorded {
        let slot = "select pg_create_logical_replication_slot($1, 'pgoutput')::text";
        admin.query_one(slot, &[&name.text()]).await.unwrap();
        catalog
            .execute(
                "insert into operation_cleanup (operation, kind, server, database_name, name)
                 select $1, k.kind, d.server, d.name, $2
                   from tenant_database as d, unnest('{slot,publication}'::text[]) as k (kind)",
                &[operation.as_uuid(), &name.text()],
            )
            .await
            .unwrap();
    }
    name
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_removes_what_a_cancelled_move_has_left_behind_and_tells_what_nobody_recorded() {
    let fleet = Fleet::empty(following()).await;
    fleet.add("one", logical_cluster().await).await;
    let (ops, by) = (&fleet.ops, operator());
    for (slug, recorded) in [("recorded", true), ("unknown", false)] {
        let tenant = fleet.filled(slug, Isolation::Shared).await.id;
        let name = left_behind(&fleet, tenant, recorded).await;
        assert_eq!(fleet.streams().await.len(), if recorded { 2 } else { 1 });
        ops.delete_tenant(&by, &tenant.into()).await.unwrap();
        ops.purge_tenant(&by, &tenant.into()).await.unwrap();
        let certificate = ops.find_erasure(&by, &tenant.into()).await.unwrap().certificate;
        let left = certificate.places.iter().flat_map(|place| place.left());
        let left: Vec<_> = left.map(|one| one.what.clone()).collect();
        let streams = fleet.streams().await.len();
        if recorded {
            assert_eq!((left, streams), (vec![], 0));
        } else {
            let publication = format!("publication of the move {}", name.operation());
            assert_eq!((left, streams), (vec![publication], 1));
            assert_eq!(certificate.verdict, Verdict::Left);
        }
    }
}
