//! Where the bytes stand: `t/<tenant>/<id>`, below a prefix.

use std::{sync::Arc, time::SystemTime};

use futures_util::StreamExt as _;
use object_store::{
    GetResult, GetResultPayload, MultipartUpload, ObjectStore, ObjectStoreExt as _, PutPayload, local::LocalFileSystem,
    path::Path as ObjectPath,
};
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
    objects: Arc<dyn ObjectStore>,
    prefix: ObjectPath,
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
            objects: Arc::new(objects),
            prefix: ObjectPath::default(),
            folder: Some(folder),
        })
    }

    pub(super) fn over(objects: Arc<dyn ObjectStore>, prefix: &str) -> Self {
        Self {
            objects,
            prefix: ObjectPath::from(prefix),
            folder: None,
        }
    }

    fn tenant(&self, tenant: TenantId) -> ObjectPath {
        self.prefix.clone().join(FOLDER).join(tenant.to_string())
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
        Ok(self.objects.put_multipart(&self.object(tenant, id)).await?)
    }

    /// Keeps a file of one part.
    pub(super) async fn put(&self, tenant: TenantId, id: Uuid, data: PutPayload) -> Result<(), FileError> {
        self.check(tenant, id).await?;
        self.objects.put(&self.object(tenant, id), data).await?;
        Ok(())
    }

    /// Opens a file; `None` where there is none.
    pub(super) async fn open(&self, tenant: TenantId, id: Uuid) -> Result<Option<GetResult>, FileError> {
        self.check(tenant, id).await?;
        let opened = match self.objects.get(&self.object(tenant, id)).await {
            Ok(opened) => opened,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
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
        match self.objects.delete(&self.object(tenant, id)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
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
        let mut listed = self.objects.list(Some(&self.tenant(tenant)));
        while let Some(object) = listed.next().await {
            let object = object?;
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
        // With the separator behind it: one id never begins another, but nothing here should rest on that.
        let own = format!("{}/", self.tenant(tenant));
        let mut listed = self.objects.list(Some(&self.tenant(tenant)));
        while let Some(object) = listed.next().await {
            let location = object?.location;
            if !location.as_ref().starts_with(&own) {
                continue;
            }
            match self.objects.delete(&location).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

fn id_of(text: &str) -> Option<Uuid> {
    Uuid::try_parse(text).ok().filter(|id| name(*id) == text)
}
