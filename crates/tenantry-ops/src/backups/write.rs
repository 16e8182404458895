//! One backup of one tenant, into the store.

use std::io::{BufWriter, Seek as _, SeekFrom};

use tenantry_catalog::backup::{self, Kept};
use tenantry_core::{OperatorScope, TenantId};
use tenantry_engine::archive::{BackupKey, ExportOptions, Sealer};
use uuid::Uuid;

use super::{BackupError, BackupStoreError};
use crate::{Authority, Ops, TenantRef};

impl Ops {
    /// Exports a tenant into the store, encrypted with its key, and then removes those that the retention keeps no more. The
    /// tenant is served meanwhile.
    ///
    /// # Errors
    /// See [`BackupError`].
    ///
    /// # Cancel safety
    /// Dropped before its end, nothing is kept; what is left in the store is removed later.
    pub async fn create_backup(
        &self,
        authority: &Authority,
        tenant: &TenantRef,
    ) -> Result<backup::Backup, BackupError> {
        authority.require_operator(OperatorScope::Tenants)?;
        self.backup_store()?;
        let tenant = self.get_tenant(authority, tenant).await?;
        let (id, client) = (Uuid::now_v7(), self.catalog().client().await?);
        let key = backup::ensure_key(self.catalog(), &client, tenant.id, BackupKey::generate().as_bytes()).await?;
        let key = key.ok_or(BackupError::KeyErased)?;
        // Before anything of it is in the store.
        if !backup::begin(&client, id, tenant.id).await? {
            return Err(BackupError::Busy);
        }
        drop(client);
        let written = self
            .write_backup(authority, tenant.id, id, BackupKey::from_bytes(key))
            .await;
        if written.is_err() {
            self.give_up_backup(tenant.id, id).await;
        }
        let kept = written?;
        self.prune_backups(Some(tenant.id)).await?;
        Ok(kept)
    }

    async fn write_backup(
        &self,
        authority: &Authority,
        tenant: TenantId,
        id: Uuid,
        key: BackupKey,
    ) -> Result<backup::Backup, BackupError> {
        // Encrypted before it is on any disk.
        let file = tempfile::tempfile().map_err(BackupStoreError::Folder)?;
        let sealer = Sealer::new(BufWriter::new(file), &key).map_err(BackupStoreError::Folder)?;
        let options = ExportOptions::default();
        let (sealer, exported) = self
            .export_tenant(authority, &tenant.into(), sealer, options, &mut |_, _, _| {})
            .await?;
        let sealed = tokio::task::spawn_blocking(move || {
            let writer = sealer.finish()?;
            let mut file = writer.into_inner().map_err(std::io::IntoInnerError::into_error)?;
            let bytes = file.seek(SeekFrom::End(0))?;
            file.seek(SeekFrom::Start(0))?;
            Ok::<_, std::io::Error>((file, bytes))
        });
        let sealed = sealed
            .await
            .map_err(|error| BackupStoreError::Folder(std::io::Error::other(error)))?;
        let (file, bytes) = sealed.map_err(BackupStoreError::Folder)?;
        self.backup_store()?.put(tenant, id, file).await?;
        let client = self.catalog().client().await?;
        let kept = Kept {
            taken_at: exported.manifest.taken_at,
            bytes: i64::try_from(bytes).unwrap_or(i64::MAX),
            rows: i64::try_from(exported.manifest.rows()).unwrap_or(i64::MAX),
            digest: &exported.digest,
        };
        if !backup::keep(&client, id, &kept).await? {
            return Err(BackupError::NotFound);
        }
        drop(client);
        self.find_backup(id).await
    }

    /// Removes what a failed backup left, as far as that goes now; the rest is removed with what other processes left.
    async fn give_up_backup(&self, tenant: TenantId, id: Uuid) {
        let removed = async {
            self.backup_store()?.remove(tenant, id).await?;
            let client = self.catalog().client().await?;
            Ok::<_, BackupError>(backup::forget(&client, id).await?)
        };
        if let Err(error) = removed.await {
            tracing::warn!(tenant.id = %tenant, %error, "what is left of a failed backup is removed later");
        }
    }
}
