use std::time::{Duration, Instant};

use tenantry_testing::{FaultProxy, TestCluster, cluster};
use tokio::time::timeout;
use tokio_postgres::{Client, NoTls};

/// Longer than anything that passes needs.
const LONG: Duration = Duration::from_secs(30);
/// Long enough to see that nothing passes.
const SHORT: Duration = Duration::from_millis(150);

async fn proxied() -> (&'static TestCluster, FaultProxy) {
    let cluster = cluster().await;
    (cluster, FaultProxy::start(cluster.host(), cluster.port()).await)
}

async fn connect(cluster: &TestCluster, proxy: &FaultProxy) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = cluster
        .admin_config_through(proxy.port(), "postgres")
        .connect(NoTls)
        .await?;
    tokio::spawn(connection);
    Ok(client)
}

#[tokio::test]
async fn what_passes_is_counted() {
    let (cluster, proxy) = proxied().await;
    let client = connect(cluster, &proxy).await.unwrap();
    let before = (proxy.request_bytes(), proxy.answer_bytes());
    client.simple_query("select repeat('x', 100000)").await.unwrap();
    assert_eq!(proxy.accepted(), 1);
    assert!(proxy.request_bytes() - before.0 < 100);
    assert!(proxy.answer_bytes() - before.1 > 100_000);
}

#[tokio::test]
async fn a_cut_closes_connections_and_new_ones_until_it_is_healed() {
    let (cluster, proxy) = proxied().await;
    let client = connect(cluster, &proxy).await.unwrap();
    proxy.cut();
    timeout(LONG, client.simple_query("select 1"))
        .await
        .unwrap()
        .unwrap_err();
    assert!(timeout(LONG, connect(cluster, &proxy)).await.unwrap().is_err());
    proxy.heal();
    assert!(client.simple_query("select 1").await.is_err());
    connect(cluster, &proxy)
        .await
        .unwrap()
        .simple_query("select 1")
        .await
        .unwrap();
    let client = connect(cluster, &proxy).await.unwrap();
    proxy.cut_once();
    timeout(LONG, client.simple_query("select 1"))
        .await
        .unwrap()
        .unwrap_err();
    connect(cluster, &proxy).await.unwrap();
}

#[tokio::test]
async fn a_stall_lets_nothing_pass_and_loses_nothing() {
    let (cluster, proxy) = proxied().await;
    let client = connect(cluster, &proxy).await.unwrap();
    proxy.stall();
    let call = client.simple_query("select 1");
    tokio::pin!(call);
    timeout(SHORT, &mut call).await.unwrap_err();
    assert!(timeout(SHORT, connect(cluster, &proxy)).await.is_err());
    proxy.heal();
    timeout(LONG, call).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_delay_holds_each_direction_up() {
    let (cluster, proxy) = proxied().await;
    let client = connect(cluster, &proxy).await.unwrap();
    let delay = Duration::from_millis(40);
    proxy.delay(delay);
    let began = Instant::now();
    client.simple_query("select 1").await.unwrap();
    assert!(began.elapsed() >= 2 * delay);
}

#[tokio::test]
async fn a_connection_ends_within_an_answer_and_within_a_request() {
    let (cluster, proxy) = proxied().await;
    let client = connect(cluster, &proxy).await.unwrap();
    proxy.cut_after_answer_bytes(proxy.answer_bytes() + 1000);
    timeout(LONG, client.simple_query("select repeat('x', 100000)"))
        .await
        .unwrap()
        .unwrap_err();
    proxy.heal();

    let client = connect(cluster, &proxy).await.unwrap();
    let passed_by_earlier = proxy.request_bytes();
    client.simple_query("select 1").await.unwrap();
    proxy.cut_after_request_bytes(1);
    timeout(LONG, client.simple_query("select 2"))
        .await
        .unwrap()
        .unwrap_err();
    assert!(proxy.request_bytes() > passed_by_earlier);
}
