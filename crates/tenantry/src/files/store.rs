//! Where the bytes stand: `t/<tenant>/<id>`, below a prefix.

use std::{sync::Arc, time::SystemTime};

use futures_util::StreamExt as _;
use object_store::{
    GetResult, GetResultPayload, MultipartUpload, ObjectStore, ObjectStoreExt as _, PutPayload, local::LocalFileSystem,
    path::Path as ObjectPath,
};
use tenantry_bucket::{Bucket, Objects, PART_BYTES_MIN};
use tenantry_core::TenantId;
use uuid::Uuid;

use super::{FileError, folder::Folder};

/// Below it stand all tenants.
pub(super) const FOLDER: &str = "t";

/// What a file is called in the store. Nothing of it comes from outside.
pub(super) fn name(id: Uuid) -> String {
    id.simple().to_string()
}

/// Where the bytes stand. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Store {
    objects: Objects,
    folder: Option<Folder>,
}

/// Something of a tenant's in the store.
pub(super) struct Held {
    /// None for what no file of ours is called.
    pub(super) id: Option<Uuid>,
    pub(super) name: String,
    pub(super) bytes: u64,
    pub(super) modified: SystemTime,
}

impl Store {
    pub(super) fn in_folder(root: &std::path::Path) -> Result<Self, FileError> {
        let folder = Folder::open(root)?;
        // A file that is listed outlives a power cut.
        let objects = LocalFileSystem::new_with_prefix(folder.root())?.with_fsync(true);
        Ok(Self {
            objects: Objects::over(Arc::new(objects), ""),
            folder: Some(folder),
        })
    }

    pub(super) fn over(objects: Arc<dyn ObjectStore>, prefix: &str) -> Self {
        Self {
            objects: Objects::over(objects, prefix),
            folder: None,
        }
    }

    pub(super) fn in_bucket(bucket: Bucket) -> Self {
        Self {
            objects: bucket.into(),
            folder: None,
        }
    }

    /// The size of an upload's parts: a bucket takes the parts as they come and says at the end that they were too small.
    pub(super) fn part_bytes(&self, wanted: usize) -> usize {
        match self.objects.is_in_bucket() {
            true => wanted.max(PART_BYTES_MIN),
            false => wanted.max(1),
        }
    }

    /// What a failure of the store means.
    pub(super) fn failed(&self, error: object_store::Error) -> FileError {
        self.objects.failed(error).into()
    }

    fn tenant(&self, tenant: TenantId) -> ObjectPath {
        self.objects.prefix.clone().join(FOLDER).join(tenant.to_string())
    }

    fn object(&self, tenant: TenantId, id: Uuid) -> ObjectPath {
        self.tenant(tenant).join(name(id))
    }

    /// Runs something on the folder, if that is where files are, off the runtime's threads.
    async fn on_folder<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Folder) -> Result<T, FileError> + Send + 'static,
    ) -> Result<Option<T>, FileError> {
        let Some(folder) = self.folder.clone() else {
            return Ok(None);
        };
        let done = tokio::task::spawn_blocking(move || act(&folder));
        done.await
            .map_err(|error| FileError::Folder(std::io::Error::other(error)))?
            .map(Some)
    }

    async fn check(&self, tenant: TenantId, id: Uuid) -> Result<(), FileError> {
        self.on_folder(move |folder| folder.check(tenant, id)).await?;
        Ok(())
    }

    /// Begins a file of several parts.
    pub(super) async fn begin(&self, tenant: TenantId, id: Uuid) -> Result<Box<dyn MultipartUpload>, FileError> {
        self.check(tenant, id).await?;
        let begun = self.objects.store.put_multipart(&self.object(tenant, id)).await;
        begun.map_err(|error| self.failed(error))
    }

    /// Keeps a file of one part.
    pub(super) async fn put(&self, tenant: TenantId, id: Uuid, data: PutPayload) -> Result<(), FileError> {
        self.check(tenant, id).await?;
        let kept = self.objects.store.put(&self.object(tenant, id), data).await;
        kept.map(drop).map_err(|error| self.failed(error))
    }

    /// Opens a file; `None` where there is none.
    pub(super) async fn open(&self, tenant: TenantId, id: Uuid) -> Result<Option<GetResult>, FileError> {
        self.check(tenant, id).await?;
        let opened = match self.objects.store.get(&self.object(tenant, id)).await {
            Ok(opened) => opened,
            Err(error) => {
                self.objects.unless_absent(error)?;
                return Ok(None);
            }
        };
        if let GetResultPayload::File(file, _) = &opened.payload {
            let same = file.try_clone().map_err(FileError::Folder)?;
            let stands = self
                .on_folder(move |folder| folder.check_opened(tenant, id, &same))
                .await?;
            // Removed since, as the file that took its place was kept: whoever asks looks again.
            if stands == Some(false) {
                return Ok(None);
            }
        }
        Ok(Some(opened))
    }

    /// Removes a file, if it is there.
    pub(super) async fn remove(&self, tenant: TenantId, id: Uuid) -> Result<(), FileError> {
        let removed = self.on_folder(move |folder| folder.remove(tenant, id)).await?;
        if removed.is_some() {
            return Ok(());
        }
        Ok(self.objects.remove(&self.object(tenant, id)).await?)
    }

    /// What the store holds of a tenant.
    pub(super) async fn list(&self, tenant: TenantId) -> Result<Vec<Held>, FileError> {
        if let Some(found) = self.on_folder(move |folder| folder.list(tenant)).await? {
            let held = found.into_iter().map(|found| Held {
                id: id_of(&found.name),
                name: found.name,
                bytes: found.bytes,
                modified: found.modified,
            });
            return Ok(held.collect());
        }
        let mut held = Vec::new();
        let mut listed = self.objects.store.list(Some(&self.tenant(tenant)));
        while let Some(object) = listed.next().await {
            let object = object.map_err(|error| self.failed(error))?;
            let name = object.location.filename().unwrap_or_default().to_owned();
            held.push(Held {
                id: id_of(&name).filter(|id| self.object(tenant, *id) == object.location),
                name,
                bytes: object.size,
                modified: object.last_modified.into(),
            });
        }
        Ok(held)
    }

    /// Removes what an upload left that ended with its process. Object stores keep such parts out of sight.
    pub(super) async fn remove_staged(&self, tenant: TenantId, name: String) -> Result<(), FileError> {
        self.on_folder(move |folder| folder.remove_staged(tenant, &name))
            .await?;
        Ok(())
    }

    /// Removes all of a tenant.
    pub(super) async fn remove_all(&self, tenant: TenantId) -> Result<(), FileError> {
        if self.on_folder(move |folder| folder.remove_all(tenant)).await?.is_some() {
            return Ok(());
        }
        Ok(self.objects.remove_all(&self.tenant(tenant)).await?)
    }
}

fn id_of(text: &str) -> Option<Uuid> {
    Uuid::try_parse(text).ok().filter(|id| name(*id) == text)
}
