//! Who may work on an operation.

use std::time::Duration;

use serde_json::json;
use tenantry_catalog::{
    Catalog, Client, MasterKey,
    operation::{self, Held, MoveBound, NewOperation, OperationKind, OperationState, Wish},
};
use tenantry_core::OperationId;
use tenantry_testing::database;
use uuid::Uuid;

const LONG: Duration = Duration::from_secs(60);

async fn with_operation() -> (tenantry_testing::TestDatabase, Catalog, OperationId) {
    let database = database().await;
    let catalog = Catalog::connect(&database.url(), &MasterKey::from_bytes([7; 32]))
        .await
        .unwrap();
    let id = OperationId::from_uuid(Uuid::now_v7());
    let client = catalog.client().await.unwrap();
    let new = NewOperation {
        id,
        kind: OperationKind::Purge,
        tenant: None,
        database: None,
        input: &json!({}),
        run_after: None,
    };
    assert!(operation::insert(&client, &new).await.unwrap());
    (database, catalog, id)
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_runners_one_gets_the_operation() {
    let (_database, catalog, id) = with_operation().await;
    let claims = (0..10).map(|_| async {
        let client = catalog.client().await.unwrap();
        operation::claim(&client, None, Uuid::now_v7(), LONG).await.unwrap()
    });
    let claimed: Vec<_> = futures_util::future::join_all(claims)
        .await
        .into_iter()
        .flatten()
        .collect();
    assert_eq!(claimed.len(), 1);
    assert_eq!(claimed[0].0.id, id);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_whose_lease_ran_out_writes_nothing_more() {
    let (_database, catalog, id) = with_operation().await;
    let client = catalog.client().await.unwrap();
    let (_, old) = operation::claim(&client, Some(id), Uuid::now_v7(), Duration::ZERO)
        .await
        .unwrap()
        .unwrap();
    let (_, new) = operation::claim(&client, Some(id), Uuid::now_v7(), LONG)
        .await
        .unwrap()
        .unwrap();
    assert!(new.fencing > old.fencing);
    assert_eq!(operation::extend(&client, old, LONG).await.unwrap(), Held::Lost);
    assert_eq!(operation::hold(&client, old).await.unwrap(), Held::Lost);
    assert_eq!(
        operation::begin_step(&client, old, "x", LONG).await.unwrap(),
        Held::Lost
    );
    assert_eq!(
        operation::finish(&client, old, OperationState::Done, None)
            .await
            .unwrap(),
        Held::Lost
    );
    assert_eq!(operation::begin_undo(&client, old, "x", "x").await.unwrap(), Held::Lost);
    assert_eq!(
        operation::retry_later(&client, old, LONG, "x", "x").await.unwrap(),
        Held::Lost
    );
    assert_eq!(
        operation::park(&client, old, chrono::Utc::now()).await.unwrap(),
        Held::Lost
    );
    assert_eq!(
        operation::begin_step(&client, new, "first", LONG).await.unwrap(),
        Held::Yes
    );
    assert_eq!(
        operation::finish(&client, new, OperationState::Done, None)
            .await
            .unwrap(),
        Held::Yes
    );
    // What has ended is taken by nobody.
    assert!(
        operation::claim(&client, Some(id), Uuid::now_v7(), LONG)
            .await
            .unwrap()
            .is_none()
    );
    let found = operation::find(&client, id).await.unwrap().unwrap();
    assert_eq!((found.state, found.step.as_str()), (OperationState::Done, "first"));
}

/// A move that was asked for, off this server.
async fn with_move(client: &Client, from: &str) -> OperationId {
    let id = OperationId::from_uuid(Uuid::now_v7());
    let new = NewOperation {
        id,
        kind: OperationKind::Move,
        tenant: None,
        // One without a tenant has its database to itself.
        database: None,
        input: &json!({ "from": { "server": from } }),
        run_after: None,
    };
    assert!(operation::insert(client, &new).await.unwrap());
    id
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_moves_off_one_server_are_taken_at_once_as_are_wanted() {
    let (_database, catalog, other) = with_operation().await;
    let client = catalog.client().await.unwrap();
    let mut off_one = Vec::new();
    for _ in 0..4 {
        off_one.push(with_move(&client, "one").await);
    }
    let off_two = with_move(&client, "two").await;
    let take = async || {
        let mut client = catalog.client().await.unwrap();
        let bound = MoveBound {
            per_source: 2,
            may_wait: &["", "follow"],
            counted: &["", "follow", "close"],
        };
        let taken = operation::claim_due(&mut client, Uuid::now_v7(), LONG, bound).await;
        taken.unwrap().map(|(operation, lease)| (operation.id, lease))
    };
    // Many runners at once; what is no move does not wait for any.
    let taken = futures_util::future::join_all((0..12).map(|_| take())).await;
    let ids: Vec<_> = taken.iter().flatten().map(|(id, _)| *id).collect();
    assert_eq!(ids.len(), 4, "{ids:?}");
    assert!(ids.contains(&other) && ids.contains(&off_two), "{ids:?}");
    let (first, lease) = *taken.iter().flatten().find(|(id, _)| off_one.contains(id)).unwrap();
    assert!(take().await.is_none());

    // One whose tenant waits goes on, and so does one that somebody wants to stop.
    let waiting: Vec<_> = off_one.iter().copied().filter(|id| !ids.contains(id)).collect();
    let sql = "update operation set step = $2 where id = $1";
    client.execute(sql, &[waiting[0].as_uuid(), &"close"]).await.unwrap();
    assert_eq!(take().await.unwrap().0, waiting[0]);
    operation::wish(&client, waiting[1], Some(Wish::Abort)).await.unwrap();
    let (stopped, its_lease) = take().await.unwrap();
    assert_eq!(stopped, waiting[1]);

    // The next one begins when others are through.
    let next = with_move(&client, "one").await;
    assert!(take().await.is_none());
    for lease in [lease, its_lease] {
        let ended = operation::finish(&client, lease, OperationState::Done, None).await;
        assert_eq!(ended.unwrap(), Held::Yes);
    }
    assert!(take().await.is_none(), "{first} has ended, and two are at work");
    client.execute(sql, &[waiting[0].as_uuid(), &"soak"]).await.unwrap();
    assert_eq!(take().await.unwrap().0, next);
}
