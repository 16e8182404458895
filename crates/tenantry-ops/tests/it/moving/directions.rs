//! Every direction, one after the other, and what goes along.

use tenantry_core::{Isolation, TenantState};
use tenantry_ops::OperationState;

use crate::fleet::{Fleet, operator};

/// All nine pairs of isolations, within a server and between two.
const WAY: [&str; 12] = [
    "schema",
    "shared",
    "shared@two",
    "database",
    "database@one",
    "schema",
    "schema@two",
    "database",
    "shared@one",
    "database",
    "schema@two",
    "shared",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_moves_in_every_direction_with_all_its_rows() {
    let fleet = Fleet::of_two().await;
    let neighbour = fleet.filled("neighbour", Isolation::Shared).await;
    let tenant = fleet.filled("acme", Isolation::Shared).await;
    let (mut rows, others) = (fleet.rows(tenant.id).await, fleet.rows(neighbour.id).await);
    let mut server = "one".to_owned();
    for (number, to) in WAY.into_iter().enumerate() {
        let bound = fleet.enter(tenant.id).await.unwrap();
        fleet.moves(tenant.id, to).await;
        if let Some((_, named)) = to.split_once('@') {
            server = named.to_owned();
        }
        let isolation = to.split('@').next().unwrap();
        assert_eq!(fleet.place(tenant.id).await, format!("{isolation}@{server}"));
        assert_eq!(fleet.rows(tenant.id).await, rows, "{to}");
        fleet.lives_once(tenant.id, to).await;
        // What was bound before the move reads and writes nothing at either home.
        for sql in ["select * from notes", "insert into contacts (name) values ('late')"] {
            assert!(bound.execute(sql, &[]).await.is_err(), "{to}: {sql}");
        }
        let epoch = fleet.found(tenant.id).await.placement.unwrap().epoch;
        assert_eq!(epoch.0, number as i64 + 2);
        fleet.add_contact(tenant.id, &format!("{number}@example.com")).await;
        let client = fleet.enter(tenant.id).await.unwrap();
        let note = "insert into notes (contact, text) select id, 'after a move' from contacts limit 1";
        assert_eq!(client.execute(note, &[]).await.unwrap(), 1, "identities go on");
        rows = fleet.rows(tenant.id).await;
    }
    assert_eq!(
        fleet.rows(neighbour.id).await,
        others,
        "nobody else's rows were touched"
    );
    let servers = fleet.ops.list_servers(&operator()).await.unwrap();
    let places: Vec<_> = servers
        .iter()
        .map(|server| (server.name.as_str(), server.tenants))
        .collect();
    assert_eq!(places, [("one", 1), ("two", 1)]);
    let told = fleet
        .ops
        .list_audit(&operator(), Some(tenant.id), None, 100)
        .await
        .unwrap();
    assert_eq!(
        told.iter().filter(|entry| entry.action == "tenant.moved").count(),
        WAY.len()
    );
    // And it can go for good.
    fleet.ops.delete_tenant(&operator(), &tenant.id.into()).await.unwrap();
    fleet.ops.purge_tenant(&operator(), &tenant.id.into()).await.unwrap();
    let traces = fleet.traces(tenant.id).await;
    assert!(traces.notes.is_empty() && traces.open == 0, "{traces:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_tenant_moves_and_stays_suspended() {
    let fleet = Fleet::of_two().await;
    let tenant = fleet.filled("acme", Isolation::Shared).await;
    let rows = fleet.rows(tenant.id).await;
    for to in ["schema", "database@two", "shared"] {
        fleet.ops.suspend_tenant(&operator(), &tenant.id.into()).await.unwrap();
        fleet.moves(tenant.id, to).await;
        assert_eq!(fleet.found(tenant.id).await.state, TenantState::Suspended);
        let refusal = fleet.enter(tenant.id).await.unwrap_err();
        assert_eq!(refusal.code().unwrap().code(), "TN002", "{to}");
        fleet.ops.resume_tenant(&operator(), &tenant.id.into()).await.unwrap();
        assert_eq!(fleet.rows(tenant.id).await, rows, "{to}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_go_along_and_seeds_are_not_sown_again() {
    let fleet = Fleet::of_two().await;
    let tenant = fleet.filled("acme", Isolation::Shared).await;
    let client = fleet.enter(tenant.id).await.unwrap();
    client
        .execute(
            "select tenantry.enqueue(gen_random_uuid(), 'mail', '{}', '0', 0::int2, 5::int2, null)",
            &[],
        )
        .await
        .unwrap();
    client.execute("delete from notes", &[]).await.unwrap();
    client.execute("delete from contacts", &[]).await.unwrap();
    drop(client);
    for to in ["schema", "database@two", "shared"] {
        fleet.moves(tenant.id, to).await;
        assert_eq!(fleet.emails(tenant.id).await, Vec::<String>::new(), "{to}");
        let admin = fleet.home_admin(tenant.id).await;
        let genuine =
            "select count(*) from tenantry_private.job j where tenant = $1 and mac = tenantry_private.job_mac(kid, j)";
        let jobs: i64 = admin.query_one(genuine, &[tenant.id.as_uuid()]).await.unwrap().get(0);
        assert_eq!(jobs, 1, "{to}");
    }
    // Later migrations of the whole fleet find the tenant as one that has had its seeds.
    fleet.ops.apply_migrations(&operator()).await.unwrap();
    assert_eq!(fleet.emails(tenant.id).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_request_with_a_key_is_one_move() {
    let fleet = Fleet::of_two().await;
    let tenant = fleet.filled("acme", Isolation::Shared).await;
    let request = super::support::request("schema");
    let ask = async || {
        fleet
            .ops
            .move_tenant(&operator(), &tenant.id.into(), &request, None)
            .await
    };
    let first = fleet
        .ops
        .move_tenant(&operator(), &tenant.id.into(), &request, Some("k"))
        .await
        .unwrap();
    let again = fleet
        .ops
        .move_tenant(&operator(), &tenant.id.into(), &request, Some("k"))
        .await
        .unwrap();
    assert_eq!(first.id, again.id);
    assert!(matches!(ask().await, Err(tenantry_ops::MoveError::Busy { .. })));
    let ended = fleet.ops.finish_move(&operator(), first.id, &|_| ()).await.unwrap();
    assert_eq!(ended.state, OperationState::Done);
    assert_eq!(ended.progress["verified"].as_array().unwrap().len(), 2);
    assert!(matches!(ask().await, Err(tenantry_ops::MoveError::AlreadyThere)));
}
