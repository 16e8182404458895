//! Dividing a server's connections among processes.

use std::time::Duration;

use tenantry_catalog::{
    Catalog, MasterKey,
    connection_share::{self, Granted, Standing},
    server,
};
use tenantry_core::ServerId;
use tenantry_testing::database;
use uuid::Uuid;

/// A server with 64 connections.
async fn add_server(catalog: &Catalog) -> ServerId {
    let id = ServerId::from_uuid(Uuid::from_u128(1));
    let new = server::NewServer {
        id,
        name: "one",
        region: "eu",
        capacity: None,
        connections: Some(64),
        admin_url: &"postgres://postgres:hunter@db/postgres".to_owned().into(),
        mover_password: &"hush".to_owned().into(),
        server_version: 150_000,
        system_identifier: 1,
    };
    let client = catalog.client().await.unwrap();
    assert_eq!(
        server::insert(catalog, &client, &new).await.unwrap(),
        server::Inserted::Yes
    );
    id
}

fn standing(server: ServerId, process: u128, held: u32) -> Standing {
    Standing {
        process: Uuid::from_u128(process),
        server,
        wanted: 64,
        held,
        serves: true,
        lease: Duration::from_secs(60),
        grace: Duration::from_secs(20),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_new_begins_at_once_with_what_is_kept_for_that() {
    let database = database().await;
    let catalog = Catalog::connect(&database.url(), &MasterKey::from_bytes([7; 32]))
        .await
        .unwrap();
    let id = add_server(&catalog).await;
    let renew = async |process, held| {
        let granted = connection_share::renew(&catalog, &standing(id, process, held)).await;
        granted.unwrap().unwrap()
    };
    assert_eq!(renew(1, 0).await, Granted { target: 56, held: 56 });
    // The first is killed: its lease goes on.
    assert_eq!(renew(2, 0).await, Granted { target: 28, held: 8 });
    // One more gets nothing before somebody has closed some.
    assert_eq!(renew(3, 0).await.held, 0);
    let held = connection_share::list(&catalog.client().await.unwrap(), id)
        .await
        .unwrap();
    assert_eq!(held.iter().map(|(_, held)| held).sum::<u32>(), 64);
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_serve_requests_are_counted_apart_from_those_that_do_not() {
    let database = database().await;
    let catalog = Catalog::connect(&database.url(), &MasterKey::from_bytes([7; 32]))
        .await
        .unwrap();
    let id = add_server(&catalog).await;
    let renew = async |process, serves| {
        let standing = Standing {
            serves,
            ..standing(id, process, 0)
        };
        connection_share::renew(&catalog, &standing).await.unwrap().unwrap();
    };
    let others = async |process, serve| {
        let client = catalog.client().await.unwrap();
        let count = connection_share::count_others(&client, Uuid::from_u128(process), serve).await;
        count.unwrap()
    };
    renew(1, true).await;
    renew(2, true).await;
    renew(3, false).await;
    assert_eq!((others(1, true).await, others(1, false).await), (1, 1));
    assert_eq!(
        (others(3, true).await, others(3, false).await),
        (2, 0),
        "none counts itself"
    );
    // What a process does may change.
    renew(3, true).await;
    assert_eq!((others(1, true).await, others(1, false).await), (2, 0));
}
