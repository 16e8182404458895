//! Backups of single tenants in an object store, encrypted with a key per tenant, restored one tenant at a time.
//!
//! The store needs no trust: what stands there opens with the tenant's key only, which is in the catalog, and is signed by this
//! installation inside of that. A tenant that is purged loses its key first: copies of its backups, wherever they are, are noise.

mod at;
mod drill;
mod in_place;
mod restore;
mod retention;
mod schedule;
mod steer;
mod store;
mod write;

pub use at::{BackupAt, BackupAtError};
pub use drill::Drilled;
pub(crate) use in_place::{RestoreInput, has_same_version};
pub use restore::RestoreRequest;
pub use retention::Retention;
pub use schedule::{BACKUP_INTERVAL_MAX, BACKUP_INTERVAL_MIN, BackupSchedule};
pub use store::{BackupStore, BackupStoreError};

use chrono::{DateTime, Utc};
use tenantry_catalog::{CatalogError, backup};
use tenantry_core::{OperatorScope, TenantId};
use uuid::Uuid;

use crate::{ArchiveError, Authority, Forbidden, Ops, PortError, TenantError, TenantRef};

/// Why a backup was not made, shown or restored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The authority does not allow it.
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
    /// Nothing says where backups are.
    #[error("nothing says where backups are: set `backups` to a folder or a bucket (TENANTRY_BACKUPS)")]
    NoStore,
    /// There is no such backup.
    #[error("there is no such backup: `tenantry backup list` shows those that are kept")]
    NotFound,
    /// The tenant has none.
    #[error("the tenant has no backup yet: `tenantry backup create` makes one")]
    None,
    /// All that it has are later ones.
    #[error("the tenant has no backup as of {time} or before: `tenantry backup list` shows those that are kept")]
    NoneBefore {
        /// Than this.
        time: DateTime<Utc>,
    },
    /// The tenant's key is erased.
    #[error("the key of this tenant's backups was erased: nothing opens them")]
    KeyErased,
    /// Another process is at it.
    #[error("a backup of this tenant is being written: wait for it")]
    Busy,
    /// Nobody means so short an interval, or so long a one.
    #[error("a tenant is backed up every 30 seconds to 10 years, or never: 0")]
    Interval,
    /// Somebody writes in it, and does not end.
    #[error(
        "transactions stay open in the tenant's database ({}): end them, or try again",
        transactions.join(", ")
    )]
    InUse {
        /// Virtual ids, or `prepared <name>`.
        transactions: Vec<String>,
    },
    /// Its tables have another version.
    #[error(
        "the backup has other migrations than the tenant's tables: restore it beside the tenant (without --in-place)"
    )]
    OtherVersion,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] BackupStoreError),
    /// The archive in it can't be written, read or loaded.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The tenant can't be exported or made.
    #[error(transparent)]
    Port(#[from] PortError),
    /// The tenant can't be found, suspended or resumed.
    #[error(transparent)]
    Tenant(#[from] TenantError),
    /// The catalog failed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

impl Ops {
    /// The backups that are kept, of one tenant or of all, the newest first.
    ///
    /// # Errors
    /// See [`BackupError`].
    pub async fn list_backups(
        &self,
        authority: &Authority,
        tenant: Option<&TenantRef>,
    ) -> Result<Vec<backup::Backup>, BackupError> {
        authority.require_operator(OperatorScope::Read)?;
        let tenant = match tenant {
            Some(tenant) => Some(self.get_tenant(authority, tenant).await?.id),
            None => None,
        };
        let client = self.catalog().client().await?;
        Ok(backup::list(&client, tenant).await?)
    }

    fn backup_store(&self) -> Result<&BackupStore, BackupError> {
        self.fleet().backups.as_ref().ok_or(BackupError::NoStore)
    }

    async fn find_backup(&self, id: Uuid) -> Result<backup::Backup, BackupError> {
        let client = self.catalog().client().await?;
        backup::find(&client, id).await?.ok_or(BackupError::NotFound)
    }
}

/// Erases a purged tenant's key, which erases its backups, and then what stands in the store. Can be done again.
pub(crate) async fn forget(ops: &Ops, tenant: TenantId) -> Result<(), BackupError> {
    let client = ops.catalog().client().await?;
    backup::erase_key(&client, tenant).await?;
    let ids = backup::list_all(&client, tenant).await?;
    match ops.backup_store() {
        // Also what the catalog does not know: a catalog that was restored from before has forgotten some.
        Ok(store) => store.remove_all(tenant).await?,
        Err(_) if ids.is_empty() => return Ok(()),
        // They open no more. Whoever looks after the store removes them by the tenant's id.
        Err(_) => {
            tracing::warn!(tenant.id = %tenant, "a purged tenant's backups can't be removed: nothing says where they are")
        }
    }
    for id in ids {
        backup::forget(&client, id).await?;
    }
    Ok(())
}
