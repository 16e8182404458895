//! A drill: proof that a backup restores, by a tenant that is removed again, also by another process where the first was killed.

use std::time::{Duration, Instant};

use tenantry_catalog::backup;
use tenantry_core::{OperatorScope, TenantId, TenantState};
use uuid::Uuid;

use super::{BackupError, RestoreRequest};
use crate::{Authority, Ops, Tenant, TenantError, TenantRef, runner::chain, secret};

/// How often a drill that is at work says so.
const BEAT: Duration = Duration::from_secs(30);
/// After this long without a word, its process has ended.
const ABANDONED: Duration = Duration::from_secs(300);

/// What a drill showed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Drilled {
    /// The backup that was restored.
    pub backup: backup::Backup,
    /// How long it took until the tenant would have been served.
    pub took: Duration,
    /// How many rows were there, verified.
    pub rows: u64,
}

impl Ops {
    /// Proves that the tenant's newest backup restores: makes a tenant of it, verified, and removes that again. What an earlier drill
    /// left whose process was killed is removed, too.
    ///
    /// # Errors
    /// See [`BackupError`]. Also then the tenant that was made is removed, now or later.
    ///
    /// # Cancel safety
    /// Dropped, what was made is removed by the next drill, or by a process that keeps backups.
    pub async fn drill_backup(&self, authority: &Authority, tenant: &TenantRef) -> Result<Drilled, BackupError> {
        authority.require_operator(OperatorScope::Tenants)?;
        self.remove_left_drills().await?;
        let tenant = self.get_tenant(authority, tenant).await?;
        let client = self.catalog().client().await?;
        let newest = backup::list(&client, Some(tenant.id)).await?.into_iter().next();
        let newest = newest.ok_or(BackupError::None)?;
        let scratch = secret::tenant_id();
        // Before there is anything of it.
        backup::begin_drill(&client, scratch).await?;
        drop(client);
        let begun = Instant::now();
        let drilled = self
            .while_told(scratch, self.restore_drill(authority, &newest, scratch))
            .await;
        let took = begun.elapsed();
        let removed = self.while_told(scratch, self.remove_drill(scratch)).await;
        if let (Err(_), Err(error)) = (&drilled, &removed) {
            // Why it does not restore is what the caller is told.
            tracing::warn!(tenant.id = %scratch, error = %chain(error), "a drill's tenant can't be removed; trying again later");
        }
        drilled?;
        removed?;
        let client = self.catalog().client().await?;
        backup::note_drill(&client, newest.id).await?;
        // What was loaded was read back and compared before the tenant became active.
        let rows = u64::try_from(newest.rows).unwrap_or(0);
        Ok(Drilled {
            backup: newest,
            took,
            rows,
        })
    }

    async fn restore_drill(
        &self,
        authority: &Authority,
        newest: &backup::Backup,
        scratch: TenantId,
    ) -> Result<Tenant, BackupError> {
        let slug = format!("drill-{}", &Uuid::new_v4().simple().to_string()[..12]);
        let slug = slug.parse().map_err(|_| BackupError::None)?;
        let request = RestoreRequest::new(newest.id, slug);
        self.bear_restored(authority, &request, Some(scratch)).await
    }

    /// Does something, and says meanwhile that this process is still at it.
    async fn while_told<T>(
        &self,
        scratch: TenantId,
        work: impl Future<Output = Result<T, BackupError>>,
    ) -> Result<T, BackupError> {
        let mut work = std::pin::pin!(work);
        loop {
            let told = async {
                tokio::time::sleep(BEAT).await;
                let client = self.catalog().client().await?;
                backup::beat_drill(&client, scratch).await
            };
            tokio::select! {
                outcome = &mut work => return outcome,
                // Whoever has ended has nothing to say any more. A catalog that is slow to answer holds up no work.
                told = told => {
                    if let Err(error) = told {
                        tracing::warn!(tenant.id = %scratch, error = %chain(&error), "a drill can't say that it is at work");
                    }
                }
            }
        }
    }

    /// Removes the tenants of drills whose processes have ended. One that can't be removed keeps no other.
    pub(super) async fn remove_left_drills(&self) -> Result<(), BackupError> {
        let client = self.catalog().client().await?;
        let left = backup::list_left_drills(&client, ABANDONED).await?;
        drop(client);
        for scratch in left {
            if let Err(error) = self.remove_drill(scratch).await {
                tracing::warn!(tenant.id = %scratch, error = %chain(&error), "a drill's tenant can't be removed; trying again");
            }
        }
        Ok(())
    }

    async fn remove_drill(&self, scratch: TenantId) -> Result<(), BackupError> {
        let authority = Authority::system("backup drill");
        let found = match self.get_tenant(&authority, &scratch.into()).await {
            Ok(found) => Some(found.state),
            Err(TenantError::NotFound) => None,
            Err(error) => return Err(error.into()),
        };
        match found {
            // Its creation undid itself, or never began.
            None | Some(TenantState::Purged) => {}
            Some(TenantState::Deleted) => {
                self.purge_tenant(&authority, &scratch.into()).await?;
            }
            // One that is still being made is busy, and is removed when it has been.
            Some(_) => {
                self.delete_tenant(&authority, &scratch.into()).await?;
                self.purge_tenant(&authority, &scratch.into()).await?;
            }
        }
        let client = self.catalog().client().await?;
        Ok(backup::end_drill(&client, scratch).await?)
    }
}
