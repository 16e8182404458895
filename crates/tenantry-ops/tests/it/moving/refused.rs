//! What is in the way is told before anything is made, and the tenant is served as before.

use tenantry_core::Isolation;
use tenantry_ops::{MoveError, OperationState};
use tenantry_testing::{OwnClusterOptions, own_cluster};

use super::support::request;
use crate::fleet::{Fleet, config, operator};

fn codes(refused: Result<tenantry_ops::Operation, MoveError>) -> Vec<&'static str> {
    match refused {
        Err(MoveError::Obstacles(obstacles)) => obstacles.iter().map(|obstacle| obstacle.code).collect(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_tells_what_there_is_and_changes_nothing() {
    let fleet = Fleet::of_two().await;
    let tenant = fleet.filled("acme", Isolation::Schema).await;
    let before = (fleet.objects().await, fleet.traces(tenant.id).await.notes);
    for to in ["shared", "database", "shared@two", "schema@two", "database@two"] {
        let plan = fleet
            .ops
            .plan_move(&operator(), &tenant.id.into(), &request(to))
            .await
            .unwrap();
        assert_eq!(plan.obstacles, [], "{to}");
        assert_eq!(
            (plan.from.isolation, plan.from.server.as_str()),
            (Isolation::Schema, "one")
        );
    }
    assert_eq!((fleet.objects().await, fleet.traces(tenant.id).await.notes), before);
    assert_eq!(
        fleet
            .ops
            .list_operations(&operator(), Some(tenant.id), None, 10)
            .await
            .unwrap()
            .len(),
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_is_in_the_way_is_told_at_once() {
    let fleet = Fleet::start().await;
    let tenant = fleet.filled("acme", Isolation::Schema).await;
    let schema = fleet.found(tenant.id).await.placement.unwrap().schema;
    let admin = fleet.shared_admin().await;
    let drift = format!(
        "alter table {schema}.notes add column more int, add column kind regclass;
         update tenantry_private.migration set checksum = 'other' where schema = '{schema}' and version = 1"
    );
    admin.batch_execute(&drift).await.unwrap();
    assert_eq!(
        codes(fleet.begin_move(tenant.id, "shared").await),
        ["versions", "structure", "object-numbers"]
    );
    assert!(fleet.enter(tenant.id).await.is_ok());
    let unknown = fleet.begin_move(tenant.id, "shared@nowhere").await;
    assert!(matches!(unknown, Err(MoveError::UnknownServer)));
    let there = fleet.begin_move(tenant.id, "schema").await;
    assert!(matches!(there, Err(MoveError::AlreadyThere)));
}

/// Nobody is made to wait for minutes who did not say so.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_tenant_that_would_wait_is_moved_only_where_that_is_wanted() {
    let mut config = config();
    config.move_held_rows = 1;
    let fleet = Fleet::start_with(config).await;
    let tenant = fleet.filled("acme", Isolation::Shared).await;
    fleet.shared_admin().await.batch_execute("analyze").await.unwrap();
    assert_eq!(codes(fleet.begin_move(tenant.id, "schema").await), ["held"]);
    let mut wish = request("schema");
    wish.wait = true;
    let begun = fleet
        .ops
        .move_tenant(&operator(), &tenant.id.into(), &wish, None)
        .await
        .unwrap();
    let ended = fleet.ops.finish_move(&operator(), begun.id, &|_| ()).await.unwrap();
    assert_eq!(ended.state, OperationState::Done, "{ended:?}");
    // Nobody waits for one that is suspended.
    fleet.ops.suspend_tenant(&operator(), &tenant.id.into()).await.unwrap();
    fleet.moves(tenant.id, "shared").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_room_is_refused() {
    let fleet = Fleet::of_two().await;
    let tenant = fleet.filled("acme", Isolation::Shared).await;
    let client = fleet.ops.catalog().client().await.unwrap();
    client
        .execute("update server set capacity = 0 where name = 'two'", &[])
        .await
        .unwrap();
    assert_eq!(codes(fleet.begin_move(tenant.id, "shared@two").await), ["capacity"]);
    fleet.moves(tenant.id, "schema").await;
}

/// It goes down before the request, or between the request and the first step.
#[tokio::test(flavor = "multi_thread")]
async fn a_move_to_a_server_that_is_down_fails_clearly_and_the_tenant_is_served() {
    let mut config = config();
    config.move_attempts_max = 1;
    let fleet = Fleet::start_with(config).await;
    let mut server = own_cluster(OwnClusterOptions::default()).await;
    fleet.add("three", server.cluster()).await;
    let tenant = fleet.filled("acme", Isolation::Shared).await;
    let rows = fleet.rows(tenant.id).await;
    let begun = fleet.begin_move(tenant.id, "shared@three").await.unwrap();
    server.kill();
    let ended = fleet.ops.finish_move(&operator(), begun.id, &|_| ()).await.unwrap();
    assert_eq!(ended.state, OperationState::Failed);
    assert!(ended.error.unwrap().contains("can't connect"));
    assert_eq!(fleet.rows(tenant.id).await, rows);
    let refused = fleet.begin_move(tenant.id, "database@three").await;
    assert!(
        matches!(&refused, Err(MoveError::Server(reason)) if reason.contains("can't connect")),
        "{refused:?}"
    );
    assert_eq!(fleet.place(tenant.id).await, "shared@one");
    let servers = fleet.ops.list_servers(&operator()).await.unwrap();
    let places: Vec<_> = servers
        .iter()
        .map(|server| (server.name.as_str(), server.tenants))
        .collect();
    assert_eq!(places, [("one", 1), ("three", 0)]);
}
