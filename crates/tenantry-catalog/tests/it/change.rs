//! Changes reach every process, also those that missed the notification.

use std::time::Duration;

use tenantry_catalog::{Catalog, ChangeEvent, MasterKey, change};
use tenantry_core::{Change, TenantId};
use tenantry_testing::{FaultProxy, cluster, database};
use tokio::time::timeout;

fn tenant(number: u128) -> Change {
    Change::Tenant(TenantId::from_uuid(uuid::Uuid::from_u128(number)))
}

async fn next(follower: &mut tenantry_catalog::ChangeFollower) -> ChangeEvent {
    timeout(Duration::from_secs(10), follower.next())
        .await
        .expect("the change is told")
}

/// Waits until the follower has its connection: what was announced before is told as "all may have changed" only.
async fn connected(follower: &mut tenantry_catalog::ChangeFollower) {
    while !matches!(next(follower).await, ChangeEvent::UpToDate { .. }) {}
}

/// What follows the connection's own "all may have changed".
async fn next_change(follower: &mut tenantry_catalog::ChangeFollower) -> ChangeEvent {
    let told = async {
        loop {
            match next(follower).await {
                ChangeEvent::Lost | ChangeEvent::UpToDate { .. } => {}
                other => return other,
            }
        }
    };
    timeout(Duration::from_secs(10), told)
        .await
        .expect("the change is told")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_told_within_a_second_to_another_process_and_only_once_committed() {
    let database = database().await;
    let key = MasterKey::from_bytes([7; 32]);
    let (here, there) = (
        Catalog::connect(&database.url(), &key).await.unwrap(),
        Catalog::connect(&database.url(), &key).await.unwrap(),
    );
    let mut follower = there.follower();
    connected(&mut follower).await;
    let mut client = here.client().await.unwrap();
    let lost = client.transaction().await.unwrap();
    change::announce(&lost, tenant(1)).await.unwrap();
    lost.rollback().await.unwrap();
    // An earlier transaction that commits later: its id in the log is smaller.
    let mut other = here.client().await.unwrap();
    let late = other.transaction().await.unwrap();
    change::announce(&late, tenant(2)).await.unwrap();
    change::announce(&client, tenant(3)).await.unwrap();
    assert_eq!(next_change(&mut follower).await, ChangeEvent::Changed(tenant(3)));
    let begun = std::time::Instant::now();
    late.commit().await.unwrap();
    assert_eq!(next_change(&mut follower).await, ChangeEvent::Changed(tenant(2)));
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_only_hinted_at_is_told_too() {
    let database = database().await;
    let catalog = Catalog::connect(&database.url(), &MasterKey::from_bytes([7; 32]))
        .await
        .unwrap();
    let mut follower = catalog.follower();
    connected(&mut follower).await;
    let client = catalog.client().await.unwrap();
    client.batch_execute("set synchronous_commit = on").await.unwrap();
    change::hint(&client, tenant(1)).await.unwrap();
    assert_eq!(next_change(&mut follower).await, ChangeEvent::Changed(tenant(1)));
    let row = client.query_one("show synchronous_commit", &[]).await.unwrap();
    assert_eq!(
        row.get::<_, String>(0),
        "on",
        "the disk is not waited for by the hint alone"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_lost_connection_everything_may_have_changed() {
    let database = database().await;
    let cluster = cluster().await;
    let proxy = FaultProxy::start(cluster.host(), cluster.port()).await;
    let url = format!(
        "postgres://{}:{}@127.0.0.1:{}/{}",
        cluster.superuser(),
        cluster.password(),
        proxy.port(),
        database.name()
    );
    let key = MasterKey::from_bytes([7; 32]);
    let catalog = Catalog::connect(&url, &key).await.unwrap();
    let mut follower = catalog.follower();
    connected(&mut follower).await;
    let direct = Catalog::connect(&database.url(), &key).await.unwrap();
    change::announce(&direct.client().await.unwrap(), tenant(1))
        .await
        .unwrap();
    assert_eq!(next_change(&mut follower).await, ChangeEvent::Changed(tenant(1)));
    proxy.cut();
    change::announce(&direct.client().await.unwrap(), tenant(2))
        .await
        .unwrap();
    proxy.heal();
    // The change itself may be told as well, or not.
    while next(&mut follower).await != ChangeEvent::Lost {}
    change::announce(&direct.client().await.unwrap(), tenant(3))
        .await
        .unwrap();
    while next(&mut follower).await != ChangeEvent::Changed(tenant(3)) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_word_that_this_version_does_not_know_drops_everything() {
    let database = database().await;
    let catalog = Catalog::connect(&database.url(), &MasterKey::from_bytes([7; 32]))
        .await
        .unwrap();
    let mut follower = catalog.follower();
    connected(&mut follower).await;
    let client = catalog.client().await.unwrap();
    change::announce(&client, tenant(1)).await.unwrap();
    assert_eq!(next_change(&mut follower).await, ChangeEvent::Changed(tenant(1)));
    client
        .batch_execute("insert into change (payload) values ('moon:1'); notify tenantry_changes")
        .await
        .unwrap();
    let mut told = next(&mut follower).await;
    while matches!(told, ChangeEvent::UpToDate { .. }) {
        told = next(&mut follower).await;
    }
    assert_eq!(told, ChangeEvent::Lost);
}
