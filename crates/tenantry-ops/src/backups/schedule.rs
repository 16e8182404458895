//! Backups by the clock.

use std::time::Duration;

use serde_json::json;
use tenantry_catalog::{CatalogError, backup};
use tenantry_core::{OperatorScope, TenantState};

use super::BackupError;
use crate::{
    Authority, Ops, TenantError, TenantRef,
    audit::{self, Act},
    runner::chain,
    tenants::find_locked,
};

/// How often a process looks whether a backup is due.
const POLL: Duration = Duration::from_secs(30);
/// A tenant is not backed up more often: the clock is not looked at more often.
pub const BACKUP_INTERVAL_MIN: Duration = POLL;
/// Nor less often than once in ten years, which nobody means.
pub const BACKUP_INTERVAL_MAX: Duration = Duration::from_secs(10 * 366 * 24 * 3600);

/// How often a tenant is backed up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BackupSchedule {
    /// How old its newest backup gets before another is made; zero for never.
    pub interval: Duration,
    /// Whether the interval is the tenant's own, and not the fleet's.
    pub own: bool,
}

impl Ops {
    /// Backs up each active tenant whose newest backup is older than its interval, or the configured one where it has none of its own, one
    /// after the other, until the future is dropped; nothing where no store is configured.
    ///
    /// Any number of processes may do so: of each tenant one backup is written at a time.
    ///
    /// # Cancel safety
    /// What was begun is removed later.
    pub async fn keep_backups(&self) {
        if self.backup_store().is_err() {
            return;
        }
        loop {
            if let Err(error) = self.remove_left_drills().await {
                tracing::warn!(error = %chain(&error), "what drills left can't be removed; trying again");
            }
            if let Err(error) = self.back_up_due(self.fleet().backup_interval).await {
                tracing::warn!(error = %chain(&error), "backups can't be made; trying again");
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Backs up each tenant that is due once, `usual` being the interval of those that have none of their own (zero for never). How many it
    /// backed up; the failure of one, or of many, keeps no other from it.
    ///
    /// # Errors
    /// Where it can't be told which are due.
    pub async fn back_up_due(&self, usual: Duration) -> Result<usize, BackupError> {
        let (mut made, mut last, authority) = (0, None, Authority::system("backup schedule"));
        loop {
            let client = self.catalog().client().await?;
            // One that failed is still due, so that the next one is asked for by its id; and only when its turn has come, or it would be
            // backed up once more that another process has backed up meanwhile.
            let due = backup::find_due(&client, usual, last).await?;
            drop(client);
            let Some(tenant) = due else { return Ok(made) };
            match self.create_backup(&authority, &tenant.into()).await {
                Ok(_) => made += 1,
                // Another process makes it.
                Err(BackupError::Busy) => {}
                Err(error) => {
                    tracing::error!(tenant.id = %tenant, error = %chain(&error), "a tenant can't be backed up");
                }
            }
            last = Some(tenant);
        }
    }

    /// How often a tenant is backed up.
    ///
    /// # Errors
    /// See [`BackupError`].
    pub async fn get_backup_schedule(
        &self,
        authority: &Authority,
        tenant: &TenantRef,
    ) -> Result<BackupSchedule, BackupError> {
        authority.require_operator(OperatorScope::Read)?;
        let tenant = self.get_tenant(authority, tenant).await?.id;
        let client = self.catalog().client().await?;
        let own = backup::find_interval(&client, tenant).await?;
        Ok(self.schedule(own))
    }

    /// Has a tenant backed up this often: [`BACKUP_INTERVAL_MIN`] to [`BACKUP_INTERVAL_MAX`], zero for never, `None` for as often as the
    /// fleet is. Every process keeps to it from its next look on, within half a minute.
    ///
    /// # Errors
    /// See [`BackupError`].
    pub async fn set_backup_schedule(
        &self,
        authority: &Authority,
        tenant: &TenantRef,
        interval: Option<Duration>,
    ) -> Result<BackupSchedule, BackupError> {
        authority.require_operator(OperatorScope::Tenants)?;
        let is_sensible =
            |interval: Duration| interval.is_zero() || (BACKUP_INTERVAL_MIN..=BACKUP_INTERVAL_MAX).contains(&interval);
        if !interval.is_none_or(is_sensible) {
            return Err(BackupError::Interval);
        }
        let mut client = self.catalog().client().await?;
        let transaction = client.transaction().await.map_err(CatalogError::from)?;
        let found = find_locked(&transaction, tenant).await?;
        if found.state == TenantState::Purged {
            return Err(BackupError::Tenant(TenantError::State {
                state: found.state,
                needs: "nothing of it is there to be backed up",
            }));
        }
        let before = backup::find_interval(&transaction, found.id).await?;
        if before != interval {
            backup::set_interval(&transaction, found.id, interval).await?;
            let shown =
                |interval: Option<Duration>| json!({ "interval_s": interval.map(|interval| interval.as_secs_f64()) });
            let act = Act {
                action: "backup.schedule",
                tenant: Some(found.id),
                target: found.id.to_string(),
                before: Some(shown(before)),
                after: Some(shown(interval)),
            };
            audit::record(&transaction, authority, act).await?;
        }
        transaction.commit().await.map_err(CatalogError::from)?;
        Ok(self.schedule(interval))
    }

    fn schedule(&self, own: Option<Duration>) -> BackupSchedule {
        BackupSchedule {
            interval: own.unwrap_or(self.fleet().backup_interval),
            own: own.is_some(),
        }
    }
}
