//! A backup back into the fleet: beside the tenant, in its place, or as a drill.

use std::{
    io::{self, Seek as _, SeekFrom, Write as _},
    time::{Duration, Instant},
};

use serde_json::json;
use tenantry_catalog::{CatalogError, backup};
use tenantry_core::{Isolation, OperatorScope, Slug, TenantState};
use tenantry_engine::{
    archive::{self, ArchiveError, BackupKey, Opener, Unpacker},
    turn,
};
use uuid::Uuid;

use super::{BackupError, BackupStoreError};
use crate::{
    Authority, Ops, PortError, Tenant, TenantRef,
    archive::{Birth, Source, fit, new_tenant},
    audit::{self, Act},
    runner::{Failure, reach_home},
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
            id: None,
        };
        Ok(self.bear_tenant(authority, &new, None, Some(&birth)).await?)
    }

    /// Puts a backup's rows in the place of the tenant's own, in one transaction; nobody reads or writes there meanwhile. Other tenants,
    /// in the same tables too, notice nothing.
    ///
    /// A process that is killed in between leaves the tenant suspended, with all of its old rows or all of its new ones: do it again,
    /// or resume it.
    ///
    /// # Errors
    /// See [`BackupError`]; the rows are then as they were, and the tenant is served as before.
    pub async fn restore_backup_in_place(&self, authority: &Authority, id: Uuid) -> Result<Tenant, BackupError> {
        authority.require_operator(OperatorScope::Tenants)?;
        let found = self.find_backup(id).await?;
        let before = self.get_tenant(authority, &found.tenant.into()).await?;
        // Before the tenant is stopped: reading a large one takes a while, and it may not open.
        let archive = self.open_backup(id).await?;
        self.require_same_version(&before, &archive).await?;
        let was_active = before.state == TenantState::Active;
        if was_active {
            self.suspend_tenant(authority, &before.id.into()).await?;
        }
        let replaced = self.replace_rows(authority, &before, &found, &archive).await;
        if was_active {
            self.resume_tenant(authority, &before.id.into()).await?;
        }
        replaced?;
        Ok(self.get_tenant(authority, &before.id.into()).await?)
    }

    async fn require_same_version(&self, tenant: &Tenant, archive: &Unpacker) -> Result<(), BackupError> {
        let home = reach_home(self, tenant.id).await.map_err(PortError::from)?;
        let installation = self.catalog().installation();
        let now = archive::Snapshot::begin(&home.client, installation, &home.place).await?;
        let had = archive.manifest();
        let same = (&now.migrations, &now.own_migrations) == (&had.migrations, &had.own_migrations);
        now.end().await?;
        if same { Ok(()) } else { Err(BackupError::OtherVersion) }
    }

    async fn replace_rows(
        &self,
        authority: &Authority,
        tenant: &Tenant,
        found: &backup::Backup,
        archive: &Unpacker,
    ) -> Result<(), BackupError> {
        const TURN: Duration = Duration::from_secs(3);
        let home = reach_home(self, tenant.id).await.map_err(PortError::from)?;
        // Whoever resumes, moves or purges the tenant meanwhile takes the same turn, and ends this session.
        let turned = turn::take(&home.client, crate::runner::lock_key(tenant.id), TURN).await;
        turned.map_err(ArchiveError::from)?;
        let now = self.get_tenant(authority, &tenant.id.into()).await?;
        if now.state != TenantState::Suspended {
            return Err(crate::TenantError::State {
                state: now.state,
                needs: "it has to be suspended while its rows are replaced",
            }
            .into());
        }
        let installation = self.catalog().installation();
        archive::load(&home.client, installation, &home.place, archive, &mut |_, _, _| {}).await?;
        let mut client = self.catalog().client().await?;
        let transaction = client.transaction().await.map_err(CatalogError::from)?;
        let act = Act {
            action: "tenant.restore",
            tenant: Some(tenant.id),
            target: tenant.id.to_string(),
            before: None,
            after: Some(json!({ "backup": found.id, "taken_at": found.taken_at, "rows": found.rows })),
        };
        audit::record(&transaction, authority, act).await?;
        Ok(transaction.commit().await.map_err(CatalogError::from)?)
    }

    /// Proves that the tenant's newest backup restores: makes a tenant of it, verified, and removes that again.
    ///
    /// # Errors
    /// See [`BackupError`].
    pub async fn drill_backup(&self, authority: &Authority, tenant: &TenantRef) -> Result<Drilled, BackupError> {
        authority.require_operator(OperatorScope::Tenants)?;
        let tenant = self.get_tenant(authority, tenant).await?;
        let client = self.catalog().client().await?;
        let newest = backup::list(&client, Some(tenant.id)).await?.into_iter().next();
        drop(client);
        let newest = newest.ok_or(BackupError::None)?;
        let begun = Instant::now();
        let slug = format!("drill-{}", &Uuid::new_v4().simple().to_string()[..12]);
        let slug = slug.parse().map_err(|_| BackupError::None)?;
        let scratch = self
            .restore_backup(authority, &RestoreRequest::new(newest.id, slug))
            .await?;
        let took = begun.elapsed();
        // What was loaded was read back and compared before the tenant became active.
        let rows = u64::try_from(newest.rows).unwrap_or(0);
        self.delete_tenant(authority, &scratch.id.into()).await?;
        self.purge_tenant(authority, &scratch.id.into()).await?;
        let client = self.catalog().client().await?;
        backup::note_drill(&client, newest.id).await?;
        Ok(Drilled {
            backup: newest,
            took,
            rows,
        })
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
