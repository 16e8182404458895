//! How much of a copy is left, while it is under way.

use std::{sync::Mutex, time::Duration};

use serde_json::Value;
use tenantry_core::Isolation;
use tenantry_ops::{Operation, OperationState, ServerRequest};
use tenantry_testing::{FaultProxy, cluster, second_cluster};

use crate::fleet::{Fleet, config, operator};

const ROWS: u64 = 8_000;

/// The first server is behind a proxy.
async fn behind_a_proxy() -> (Fleet, FaultProxy) {
    let fleet = Fleet::empty(config()).await;
    let cluster = cluster().await;
    let proxy = FaultProxy::start(cluster.host(), cluster.port()).await;
    let address = format!(
        "postgres://{}:{}@127.0.0.1:{}/postgres",
        cluster.superuser(),
        cluster.password(),
        proxy.port()
    );
    let request = ServerRequest {
        name: "one".to_owned(),
        region: None,
        capacity: None,
        connections: None,
        admin_url: address.into(),
    };
    fleet.ops.add_server(&operator(), &request).await.unwrap();
    fleet.add("two", second_cluster().await).await;
    (fleet, proxy)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_takes_long_says_how_much_is_left() {
    let (fleet, proxy) = behind_a_proxy().await;
    let tenant = fleet.filled("acme", Isolation::Schema).await.id;
    let client = fleet.enter(tenant).await.unwrap();
    let many = format!(
        "insert into notes (contact, text)
         select (select id from contacts limit 1), repeat('x', 1000) || n from generate_series(1, {ROWS}) n"
    );
    client.execute(&many, &[]).await.unwrap();
    drop(client);
    // The estimate is of statistics.
    fleet.home_admin(tenant).await.batch_execute("analyze").await.unwrap();
    let begun = fleet.begin_move(tenant, "schema@two").await.unwrap();
    // Some eight megabytes in pieces of sixteen kilobytes at most: four seconds.
    proxy.delay(Duration::from_millis(8));
    let seen: Mutex<Vec<Value>> = Mutex::default();
    let ended = fleet
        .ops
        .finish_move(&operator(), begun.id, &|operation: &Operation| {
            seen.lock().unwrap().push(operation.progress.clone());
        })
        .await
        .unwrap();
    proxy.heal();
    assert_eq!(ended.state, OperationState::Done, "{ended:?}");
    let seen = seen.into_inner().unwrap();
    let told: Vec<_> = seen
        .iter()
        .filter(|progress| progress["seconds_left"].is_u64())
        .collect();
    let half_way = told.iter().find(|progress| {
        let figure = |name: &str| progress[name].as_u64().unwrap_or_default();
        figure("seconds_left") > 0 && figure("rows") > 0 && figure("rows") < figure("rows_about")
    });
    let half_way = half_way.unwrap_or_else(|| panic!("nothing was told of what is left: {told:?}"));
    assert_eq!(half_way["table"], "notes", "{half_way}");
    assert!(half_way["rows_about"].as_u64().unwrap() >= ROWS, "{half_way}");
    // What is over has nothing left.
    assert_eq!(ended.progress["seconds_left"], Value::Null, "{ended:?}");
    assert!(ended.progress["rows"].as_u64().unwrap() > ROWS, "{ended:?}");
}
