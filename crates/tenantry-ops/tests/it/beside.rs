//! What a tenant has beside its rows goes with it.

use std::{
    error::Error,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use tenantry_core::{Isolation, TenantId, TenantState};
use tenantry_ops::{Beside, FleetConfig, OperationState};
use tenantry_testing::test_folder;

use crate::{
    child::Process,
    fleet::{Fleet, config, operator},
};

/// A folder for each tenant.
#[derive(Debug)]
struct Folders {
    root: PathBuf,
    /// How often it fails before it does what it should.
    failures: AtomicUsize,
}

#[async_trait]
impl Beside for Folders {
    fn name(&self) -> &'static str {
        "folders"
    }

    async fn purge(&self, tenant: TenantId) -> Result<(), Box<dyn Error + Send + Sync>> {
        let failing = self
            .failures
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if failing.is_ok() {
            return Err("the store is away".into());
        }
        match std::fs::remove_dir_all(self.root.join(tenant.to_string())) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }
}

/// The usual configuration, with folders beside the rows.
pub(crate) fn with_folders(mut config: FleetConfig, root: &Path, failures: usize) -> FleetConfig {
    config.besides.push(Arc::new(Folders {
        root: root.to_owned(),
        failures: AtomicUsize::new(failures),
    }));
    config
}

fn fill(root: &Path, tenant: TenantId) -> PathBuf {
    let folder = root.join(tenant.to_string());
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("file"), "canary").unwrap();
    folder
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_is_not_over_before_what_is_beside_is_gone_and_leaves_others_alone() {
    let folder = test_folder();
    let fleet = Fleet::start_with(with_folders(config(), folder.path(), 3)).await;
    for isolation in Isolation::ALL {
        let slug = format!("acme-{isolation}");
        let tenant = fleet.create(&slug, isolation).await.unwrap();
        let other = fleet.create(&format!("{slug}-b"), isolation).await.unwrap();
        let (gone, kept) = (fill(folder.path(), tenant.id), fill(folder.path(), other.id));
        fleet.ops.delete_tenant(&operator(), &tenant.id.into()).await.unwrap();
        assert!(gone.exists(), "it can be recovered");
        let runner = tokio::spawn({
            let ops = fleet.ops.clone();
            async move { ops.run_operations().await }
        });
        let purge = fleet.ops.purge_tenant(&operator(), &tenant.id.into()).await.unwrap();
        runner.abort();
        assert_eq!(purge.state, OperationState::Done);
        assert!(!gone.exists() && kept.exists(), "{isolation}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_killed_around_what_is_beside_is_finished_by_another_process() {
    let folder = test_folder();
    let mut config = with_folders(config(), folder.path(), 0);
    config.retention = Duration::ZERO;
    let fleet = Fleet::start_with(config).await;
    let mut killed = Vec::new();
    for (n, place) in ["purge.after_remove", "purge.before_beside", "purge.after_beside"]
        .into_iter()
        .enumerate()
    {
        let slug = format!("killed-{}", (b'a' + n as u8) as char);
        let tenant = fleet.create(&slug, Isolation::Shared).await.unwrap();
        let gone = fill(folder.path(), tenant.id);
        fleet.park_deletion(tenant.id).await;
        let child = Process::start_beside(&fleet.catalog.url(), &slug, &format!("{place}=stop"), folder.path());
        child.gets_killed_at(place).await;
        assert_eq!(gone.exists(), place != "purge.after_beside", "{place}");
        killed.push((tenant.id, gone, place));
    }
    let runner = tokio::spawn({
        let ops = fleet.ops.clone();
        async move { ops.run_operations().await }
    });
    fleet.operations_end().await;
    runner.abort();
    for (tenant, gone, place) in killed {
        let found = fleet.ops.get_tenant(&operator(), &tenant.into()).await.unwrap();
        assert_eq!(found.state, TenantState::Purged, "killed at {place}");
        assert!(!gone.exists(), "killed at {place}");
    }
}
