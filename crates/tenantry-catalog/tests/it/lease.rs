//! Who may work on an operation.

use std::time::Duration;

use serde_json::json;
use tenantry_catalog::{
    Catalog, MasterKey,
    operation::{self, Held, NewOperation, OperationKind, OperationState},
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
