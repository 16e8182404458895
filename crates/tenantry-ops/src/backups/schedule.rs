//! Backups by the clock.

use std::time::Duration;

use tenantry_catalog::backup;

use super::BackupError;
use crate::{Authority, Ops, runner::chain};

/// How often a process looks whether a backup is due.
const POLL: Duration = Duration::from_secs(30);
/// How many it makes between two looks.
const BATCH: i64 = 20;

impl Ops {
    /// Backs up each active tenant whose newest backup is older than the configured interval, one after the other, until the future is
    /// dropped; nothing where no store or no interval is configured.
    ///
    /// Any number of processes may do so: of each tenant one backup is written at a time.
    ///
    /// # Cancel safety
    /// What was begun is removed later.
    pub async fn keep_backups(&self) {
        let interval = self.fleet().backup_interval;
        if self.backup_store().is_err() || interval.is_zero() {
            return;
        }
        loop {
            match self.back_up_due(interval).await {
                // More may be due.
                Ok(made) if made == BATCH => continue,
                Ok(_) => {}
                Err(error) => tracing::warn!(error = %chain(&error), "backups can't be made; trying again"),
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Backs up tenants that are due. How many it tried; the failure of one keeps no other from it.
    ///
    /// # Errors
    /// Where it can't be told which are due.
    pub async fn back_up_due(&self, interval: Duration) -> Result<i64, BackupError> {
        let client = self.catalog().client().await?;
        let due = backup::list_due(&client, interval, BATCH).await?;
        drop(client);
        let (mut made, authority) = (0, Authority::system("backup schedule"));
        for tenant in due {
            match self.create_backup(&authority, &tenant.into()).await {
                Ok(_) => made += 1,
                // Another process makes it.
                Err(BackupError::Busy) => {}
                Err(error) => {
                    tracing::error!(tenant.id = %tenant, error = %chain(&error), "a tenant can't be backed up");
                }
            }
        }
        Ok(made)
    }
}
