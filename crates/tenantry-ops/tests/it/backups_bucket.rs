//! Backups in a bucket, of a server that speaks S3.

use std::{collections::BTreeSet, time::Duration};

use tenantry_core::{Isolation, TenantState};
use tenantry_ops::{BackupError, BackupStore, BackupStoreError, FleetConfig, RestoreRequest};
use tenantry_testing::s3;

use crate::fleet::{Fleet, config, operator, ops_on};

fn with(store: BackupStore) -> FleetConfig {
    let mut config = config();
    config.retention = Duration::ZERO;
    config.backups = Some(store);
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_goes_into_a_bucket_and_comes_back_and_a_purge_leaves_none_of_the_tenants() {
    let s3 = s3().await;
    let place = s3.place("nightly");
    let fleet = Fleet::start_with(with(BackupStore::in_bucket(&place, s3.settings()).unwrap())).await;
    let tenant = fleet.create("acme", Isolation::Shared).await.unwrap().id;
    let other = fleet.create("other", Isolation::Schema).await.unwrap().id;
    fleet.add_contact(tenant, "secret@plain.example").await;
    let made = fleet.ops.create_backup(&operator(), &tenant.into()).await.unwrap();
    let stays = fleet.ops.create_backup(&operator(), &other.into()).await.unwrap();
    let of_other = format!("nightly/b/{other}/{}", stays.id);
    let of_tenant = format!("nightly/b/{tenant}/{}", made.id);
    assert_eq!(s3.objects(), BTreeSet::from([of_tenant.clone(), of_other.clone()]));
    let text = std::fs::read(s3.file(&of_tenant)).unwrap();
    assert!(!text.windows(6).any(|window| window == b"secret"));

    fleet.add_contact(tenant, "later@plain.example").await;
    let request = RestoreRequest::new(made.id, "acme-before".parse().unwrap());
    let beside = fleet.ops.restore_backup(&operator(), &request).await.unwrap();
    let restored = ["help@example.com", "secret@plain.example"];
    assert_eq!(fleet.emails(beside.id).await, restored);
    let back = fleet.ops.restore_backup_in_place(&operator(), made.id).await.unwrap();
    assert_eq!((back.id, back.state), (tenant, TenantState::Active));
    assert_eq!(fleet.emails(tenant).await, restored);

    // A process with a secret that was replaced says so, and what it began is nobody's backup.
    let stranger = with(BackupStore::in_bucket(&place, s3.settings_of_a_stranger()).unwrap());
    let stranger = ops_on(&fleet.catalog.url(), stranger).await;
    let refused = stranger.create_backup(&operator(), &other.into()).await.unwrap_err();
    assert!(
        matches!(&refused, BackupError::Store(BackupStoreError::Bucket(_))),
        "{refused:?}"
    );
    let text = refused.to_string();
    assert!(
        text.contains("s3://tenantry") && text.contains("AWS_SECRET_ACCESS_KEY"),
        "{text}"
    );
    let listed = fleet.ops.list_backups(&operator(), Some(&other.into())).await.unwrap();
    assert_eq!(listed.len(), 1);

    fleet.ops.delete_tenant(&operator(), &tenant.into()).await.unwrap();
    fleet.ops.purge_tenant(&operator(), &tenant.into()).await.unwrap();
    assert_eq!(s3.objects(), BTreeSet::from([of_other]));
    assert_eq!(s3.unfinished(), 0);
    fleet.ops.verify_backup(&operator(), stays.id).await.unwrap();
}
