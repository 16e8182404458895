//! A backup back into the fleet, beside the tenant that it is of.

use std::io::{self, Seek as _, SeekFrom, Write as _};

use tenantry_catalog::backup;
use tenantry_core::{Isolation, OperatorScope, Slug, TenantId};
use tenantry_engine::archive::{ArchiveError, BackupKey, Opener, Unpacker};
use uuid::Uuid;

use super::{BackupError, BackupStoreError};
use crate::{
    Authority, Ops, Tenant,
    archive::{Birth, RowIds, Source, fit, new_tenant},
    runner::Failure,
};

/// A tenant that shall be made of a backup, beside the one that it is of.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RestoreRequest {
    /// The backup.
    pub backup: Uuid,
    /// Its label.
    pub slug: Slug,
    /// How its rows are kept apart; as they were where it is left out.
    pub isolation: Option<Isolation>,
    /// On the server of this name.
    pub server: Option<String>,
}

impl RestoreRequest {
    /// With its rows kept apart as they were.
    pub fn new(backup: Uuid, slug: Slug) -> Self {
        Self {
            backup,
            slug,
            isolation: None,
            server: None,
        }
    }
}

impl Ops {
    /// Reads a backup from the store, and verifies every byte, count and checksum of it. Nothing is made.
    ///
    /// # Errors
    /// See [`BackupError`].
    pub async fn verify_backup(&self, authority: &Authority, id: Uuid) -> Result<backup::Backup, BackupError> {
        authority.require_operator(OperatorScope::Read)?;
        let found = self.find_backup(id).await?;
        self.open_backup(id).await?.check().await?;
        Ok(found)
    }

    /// Makes a tenant of a backup, beside the one that it is of, which is served meanwhile. Returns once it is active.
    ///
    /// # Errors
    /// See [`BackupError`].
    ///
    /// # Cancel safety
    /// Once the tenant is recorded, its operation goes on by itself.
    pub async fn restore_backup(&self, authority: &Authority, request: &RestoreRequest) -> Result<Tenant, BackupError> {
        self.bear_restored(authority, request, None).await
    }

    /// The same; the tenant gets this id where there is one.
    pub(super) async fn bear_restored(
        &self,
        authority: &Authority,
        request: &RestoreRequest,
        id: Option<TenantId>,
    ) -> Result<Tenant, BackupError> {
        authority.require_operator(OperatorScope::Tenants)?;
        let archive = self.open_backup(request.backup).await?;
        let manifest = archive.manifest();
        let mut wanted = crate::ImportRequest::new("");
        wanted.slug = Some(request.slug.clone());
        wanted.isolation = request.isolation;
        wanted.server.clone_from(&request.server);
        let new = new_tenant(&wanted, manifest)?;
        let isolation = new.isolation.unwrap_or(manifest.tenant.isolation);
        let (migrations, own) = (&manifest.migrations, &manifest.own_migrations);
        let version = fit(self, migrations, own, &new.slug, isolation).await?;
        let birth = Birth {
            source: Source::Backup { backup: request.backup },
            version,
            id,
            ids: RowIds::Kept,
        };
        Ok(self.bear_tenant(authority, &new, None, Some(&birth)).await?)
    }

    /// Brings a backup here, decrypted, into a file that has no name, and verifies its signature.
    pub(crate) async fn open_backup(&self, id: Uuid) -> Result<Unpacker, BackupError> {
        let found = self.find_backup(id).await?;
        let client = self.catalog().client().await?;
        let key = backup::find_key(self.catalog(), &client, found.tenant).await?;
        drop(client);
        let key = BackupKey::from_bytes(key.ok_or(BackupError::KeyErased)?);
        let mut sealed = self.backup_store()?.get(found.tenant, id).await?;
        let signer = self.archive_signer();
        let opened = tokio::task::spawn_blocking(move || {
            sealed.seek(SeekFrom::Start(0)).map_err(BackupStoreError::Folder)?;
            let mut plain = tempfile::tempfile().map_err(BackupStoreError::Folder)?;
            let mut opener = Opener::new(io::BufReader::new(sealed), &key).map_err(BackupStoreError::Folder)?;
            io::copy(&mut opener, &mut plain).map_err(BackupStoreError::Folder)?;
            plain.flush().map_err(BackupStoreError::Folder)?;
            Ok::<_, BackupError>(Unpacker::open(plain, &[signer])?)
        });
        let archive = opened
            .await
            .map_err(|error| BackupStoreError::Folder(io::Error::other(error)))??;
        // Another tenant's, put in its place in the store, has another key; another one of the same tenant's has another digest.
        if archive.digest() != found.digest {
            return Err(ArchiveError::Tampered.into());
        }
        Ok(archive)
    }
}

impl From<BackupError> for Failure {
    fn from(error: BackupError) -> Self {
        match error {
            BackupError::Catalog(error) => error.into(),
            BackupError::Archive(error) => error.into(),
            BackupError::Store(error) => Self::retry("backup_unreachable", error.to_string()),
            other => Self::permanent("backup_refused", other.to_string()),
        }
    }
}
