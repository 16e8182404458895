//! Where backups stand: `b/<tenant>/<backup>`, below a prefix, in a folder or an object store.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    path::Path,
    sync::Arc,
};

use futures_util::StreamExt as _;
use object_store::{
    MultipartUpload, ObjectStore, ObjectStoreExt as _, PutPayload, local::LocalFileSystem, path::Path as ObjectPath,
};
use tenantry_bucket::{Bucket, BucketError, Objects};
use tenantry_core::TenantId;
use uuid::Uuid;

/// Below it stand all tenants.
const FOLDER: &str = "b";
/// Object stores take no smaller parts than 5 MiB, and not more than 10,000 of them: 80 GB.
const PART_BYTES: usize = 8 << 20;

/// Where backups stand. Cheap to clone.
#[derive(Clone, Debug)]
pub struct BackupStore {
    objects: Objects,
}

/// The store failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupStoreError {
    /// It can't be named so.
    #[error("backups stand in a folder, or, where this program was built with the feature `s3`, in s3://bucket/prefix")]
    Location,
    /// The folder or a temporary file failed.
    #[error("the place of backups can't be used: {0}")]
    Folder(#[from] std::io::Error),
    /// The bucket can't be used as it is configured.
    #[error(transparent)]
    Bucket(BucketError),
    /// The object store failed.
    #[error("the store of backups can't be used: {0}")]
    Store(#[from] object_store::Error),
}

impl From<BucketError> for BackupStoreError {
    fn from(error: BucketError) -> Self {
        match error {
            BucketError::Store(error) => Self::Store(error),
            error => Self::Bucket(error),
        }
    }
}

impl BackupStore {
    /// Where a text says: in a folder, or with the feature `s3` in `s3://bucket/prefix`, with what the environment says of it
    /// (`AWS_ACCESS_KEY_ID`, `AWS_REGION`, `AWS_ENDPOINT` and the like).
    ///
    /// # Errors
    ///
    /// Where it can't be used.
    pub fn at(location: &str) -> Result<Self, BackupStoreError> {
        if location.contains("://") {
            return Self::in_bucket(location, tenantry_bucket::environment());
        }
        Self::in_folder(Path::new(location))
    }

    /// In `s3://bucket/prefix`, with settings of the program's own instead of the environment's, under the same names.
    ///
    /// # Errors
    ///
    /// [`BackupStoreError::Location`] for another text, and in a program without the feature `s3`; [`BackupStoreError::Bucket`] where
    /// a setting can't be used, and for an endpoint without TLS that `AWS_ALLOW_HTTP` does not allow.
    pub fn in_bucket<K: AsRef<str>, V: Into<String>>(
        location: &str,
        settings: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, BackupStoreError> {
        let bucket = Bucket::open(location, settings)?.ok_or(BackupStoreError::Location)?;
        Ok(Self { objects: bucket.into() })
    }

    /// In a folder, which is made where there is none.
    ///
    /// # Errors
    ///
    /// Where it can't be made or entered.
    pub fn in_folder(root: &Path) -> Result<Self, BackupStoreError> {
        std::fs::create_dir_all(root)?;
        // What is listed outlives a power cut.
        let objects = LocalFileSystem::new_with_prefix(root)?.with_fsync(true);
        Ok(Self::over(Arc::new(objects), ""))
    }

    /// In any object store, below a prefix that nothing else uses.
    pub fn over(objects: Arc<dyn ObjectStore>, prefix: &str) -> Self {
        Self {
            objects: Objects::over(objects, prefix),
        }
    }

    fn tenant(&self, tenant: TenantId) -> ObjectPath {
        self.objects.prefix.clone().join(FOLDER).join(tenant.to_string())
    }

    fn object(&self, tenant: TenantId, id: Uuid) -> ObjectPath {
        self.tenant(tenant).join(id.to_string())
    }

    /// Keeps what is in a file. What was kept of it when it fails is no object.
    pub(super) async fn put(&self, tenant: TenantId, id: Uuid, file: File) -> Result<(), BackupStoreError> {
        let begun = self.objects.store.put_multipart(&self.object(tenant, id)).await;
        let mut upload = begun.map_err(|error| self.objects.failed(error))?;
        let sent = self.send(&mut *upload, file).await;
        if sent.is_err() {
            // Where this fails too the store's own rules remove it.
            let _ = upload.abort().await;
        }
        sent
    }

    async fn send(&self, upload: &mut dyn MultipartUpload, mut file: File) -> Result<(), BackupStoreError> {
        loop {
            let (rest, part) = read_part(file).await?;
            file = rest;
            let is_last = part.len() < PART_BYTES;
            if !part.is_empty() {
                let put = upload.put_part(PutPayload::from(part)).await;
                put.map_err(|error| self.objects.failed(error))?;
            }
            if is_last {
                break;
            }
        }
        let completed = upload.complete().await;
        completed.map_err(|error| self.objects.failed(error))?;
        Ok(())
    }

    /// Brings it into a file that has no name.
    pub(super) async fn get(&self, tenant: TenantId, id: Uuid) -> Result<File, BackupStoreError> {
        let found = self.objects.store.get(&self.object(tenant, id)).await;
        let found = found.map_err(|error| self.objects.failed(error))?;
        let mut file = tempfile::tempfile()?;
        let mut parts = found.into_stream();
        while let Some(part) = parts.next().await {
            let part = part.map_err(|error| self.objects.failed(error))?;
            let written = tokio::task::spawn_blocking(move || file.write_all(&part).map(|()| file));
            file = written.await.map_err(std::io::Error::other)??;
        }
        Ok(file)
    }

    /// Removes one, if it is there.
    pub(super) async fn remove(&self, tenant: TenantId, id: Uuid) -> Result<(), BackupStoreError> {
        Ok(self.objects.remove(&self.object(tenant, id)).await?)
    }

    /// How many objects it holds of a tenant.
    pub(crate) async fn count(&self, tenant: TenantId) -> Result<u64, BackupStoreError> {
        let own = format!("{}/", self.tenant(tenant));
        let mut listed = self.objects.store.list(Some(&self.tenant(tenant)));
        let mut counted = 0;
        while let Some(object) = listed.next().await {
            let object = object.map_err(|error| self.objects.failed(error))?;
            counted += u64::from(object.location.as_ref().starts_with(&own));
        }
        Ok(counted)
    }

    /// Removes all of a tenant's, those that nobody knows any more too.
    pub(super) async fn remove_all(&self, tenant: TenantId) -> Result<(), BackupStoreError> {
        Ok(self.objects.remove_all(&self.tenant(tenant)).await?)
    }
}

async fn read_part(mut file: File) -> Result<(File, Vec<u8>), BackupStoreError> {
    let read = tokio::task::spawn_blocking(move || {
        let mut part = Vec::new();
        (&mut file).take(PART_BYTES as u64).read_to_end(&mut part)?;
        Ok::<_, std::io::Error>((file, part))
    });
    Ok(read.await.map_err(std::io::Error::other)??)
}
