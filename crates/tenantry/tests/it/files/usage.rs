//! What files count for: the storage of the tenant's plan.

use std::time::{Duration, Instant};

use tenantry::{
    ErrorKind, PlanLimits, TenantId,
    files::{FileError, Files, FilesConfig, MIGRATION, ScopedFiles},
};
use tenantry_core::{Excess, Plan};
use tenantry_ops::TenantUsage;
use tenantry_testing::test_folder;

use super::put;
use crate::jobs::fleet::{Fleet, system};

const FILE: usize = 4_000_000;

async fn usage(fleet: &Fleet, tenant: TenantId) -> TenantUsage {
    fleet.ops.tenant_usage(&system(), tenant, 1).await.unwrap()
}

/// What is used and what the plan gives.
fn measure(usage: &TenantUsage, name: &str) -> (Option<u64>, Option<u64>) {
    let found = usage.measures.iter().find(|measure| measure.name == name);
    let found = found.unwrap_or_else(|| panic!("nothing is said of {name}: {usage:?}"));
    (found.used, found.limit)
}

/// Tries until an upload is kept, or refused for the plan's sake.
async fn soon(files: &ScopedFiles, kept: bool) {
    let since = Instant::now();
    loop {
        match put(files, "more", b"x").await {
            Ok(_) if kept => return,
            Err(FileError::Database(error)) if !kept && error.kind() == ErrorKind::PlanLimit => {
                assert_eq!(error.limit().map(|hit| hit.limit.as_str()), Some(Excess::STORAGE));
                return;
            }
            Ok(_) | Err(FileError::Database(_)) => {}
            Err(error) => panic!("{error}"),
        }
        assert!(since.elapsed() < Duration::from_secs(2), "not so in time: {kept}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_count_as_storage_of_the_plan_and_what_is_not_limited_is_told_too() {
    let cluster = tenantry_testing::cluster().await;
    let fleet = Fleet::with(cluster, &[("0001_files.sql", MIGRATION)]).await;
    let folder = test_folder();
    let place = Files::in_folder(folder.path(), FilesConfig::default()).unwrap();
    let tenantry = fleet.tenantry.clone().with_files(place);
    let catalog = fleet.catalog.connect().await;
    for tenant in fleet.tenants.iter().copied() {
        let files = tenantry.system_context(tenant, "test").await.unwrap().files().unwrap();
        put(&files, "file", &vec![b'x'; FILE]).await.unwrap();
        let told = usage(&fleet, tenant).await;
        assert_eq!(measure(&told, "files_bytes"), (Some(FILE as u64), None));
        assert_eq!(measure(&told, "members"), (Some(0), None));
        assert_eq!(measure(&told, "jobs"), (Some(0), None));
        assert_eq!(measure(&told, "rows.stored_file").1, None);
        let (storage, limit) = measure(&told, "storage_bytes");
        assert!(storage >= Some(FILE as u64) && limit.is_none(), "{told:?}");

        // More than the tables have, and less than they have with the file.
        let size = fleet.ops.tenant_size(&system(), tenant).await.unwrap();
        let quota = u64::try_from(size.bytes).unwrap() + FILE as u64 / 2;
        let limits = PlanLimits {
            storage_bytes: quota.try_into().ok(),
            ..PlanLimits::default()
        };
        fleet
            .ops
            .set_plan_limits(&system(), &Plan::default(), &limits)
            .await
            .unwrap();
        // As if it had been used.
        let used = "insert into tenantry_catalog.usage_day (tenant, day) values ($1, (now() at time zone 'UTC')::date)";
        catalog.execute(used, &[tenant.as_uuid()]).await.unwrap();
        assert!(fleet.ops.measure_limited().await.unwrap() > 0);
        soon(&files, false).await;
        let told = usage(&fleet, tenant).await;
        assert_eq!(measure(&told, "storage_bytes").1, Some(quota));
        assert_eq!(told.excess[0].limit, Excess::STORAGE);

        // Removing is what makes room.
        assert!(files.delete("file").await.unwrap());
        assert!(fleet.ops.measure_limited().await.unwrap() > 0);
        soon(&files, true).await;
        fleet.ops.remove_plan_limits(&system(), &Plan::default()).await.unwrap();
    }
}
