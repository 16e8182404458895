use std::path::Path;
use std::time::Duration;

use tenantry_postgres::{Cluster, ClusterOptions, servers_below};
use tenantry_testing::test_folder;

use crate::{config, connect, quick};

#[tokio::test]
async fn a_stop_ends_every_process_although_clients_are_connected() {
    let folder = test_folder();
    let cluster = Cluster::start(quick(folder.path())).await.unwrap();
    let client = connect(&config(&cluster)).await.unwrap();
    client.batch_execute("begin; create table open ()").await.unwrap();
    assert!(servers_below(folder.path()).len() > 3);
    cluster.stop().await.unwrap();
    assert_eq!(servers_below(folder.path()), []);
    assert!(!folder.path().join("data/postmaster.pid").exists());
}

#[tokio::test]
async fn a_dropped_cluster_is_stopped_in_order() {
    let folder = test_folder();
    let cluster = Cluster::start(quick(folder.path())).await.unwrap();
    let log = cluster.log_file();
    drop(cluster);
    assert_eq!(servers_below(folder.path()), []);
    assert!(
        std::fs::read_to_string(log)
            .unwrap()
            .contains("database system is shut down")
    );
}

#[tokio::test]
async fn a_stop_that_takes_too_long_becomes_an_immediate_one() {
    let folder = test_folder();
    let cluster = Cluster::start(ClusterOptions {
        stop_timeout: Duration::ZERO,
        ..quick(folder.path())
    })
    .await
    .unwrap();
    cluster.stop().await.unwrap();
    assert_eq!(servers_below(folder.path()), []);
}

#[tokio::test]
async fn a_start_that_is_no_longer_awaited_leaves_no_server() {
    let folder = test_folder();
    let (told, heard) = std::sync::mpsc::channel();
    let mut options = quick(folder.path());
    options.progress = Some(std::sync::Arc::new(move |step| drop(told.send(step))));
    let start = tokio::spawn(Cluster::start(options));
    // Its first step: it is under way.
    tokio::task::spawn_blocking(move || {
        heard.recv().unwrap();
        start.abort();
        heard
    })
    .await
    .unwrap();
    wait_until_idle(folder.path()).await;
    assert_eq!(servers_below(folder.path()), []);
}

/// The folder's lock is free once the start that nobody awaits has come to its end.
async fn wait_until_idle(folder: &Path) {
    let lock = std::fs::File::open(folder.join("lock")).unwrap();
    // Not on the runtime's own thread, which has to drop the start.
    tokio::task::spawn_blocking(move || lock.lock().unwrap()).await.unwrap();
}
