//! A local folder: nothing in it leads out.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::SystemTime,
};

use tenantry_core::TenantId;
use uuid::Uuid;

use super::{FileError, store};

/// The folder in which all tenants' files stand. Symbolic links in it are never followed: whoever can make one there can do
/// worse, but a restored backup or a tidy administrator can make one too.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    root: PathBuf,
}

/// Something in a tenant's folder.
pub(super) struct Found {
    pub(super) name: String,
    pub(super) bytes: u64,
    pub(super) modified: SystemTime,
}

const LINK: FileError = FileError::Damaged("a symbolic link stands in its place");

impl Folder {
    pub(super) fn open(root: &Path) -> Result<Self, FileError> {
        fs::create_dir_all(root).map_err(FileError::Folder)?;
        let root = fs::canonicalize(root).map_err(FileError::Folder)?;
        Ok(Self { root })
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    fn tenant(&self, tenant: TenantId) -> PathBuf {
        self.root.join(store::FOLDER).join(tenant.to_string())
    }

    /// The ways from the root to a file, the nearest first.
    fn ways(&self, tenant: TenantId) -> [PathBuf; 2] {
        [self.root.join(store::FOLDER), self.tenant(tenant)]
    }

    /// That no symbolic link stands between the root and the file, nor in its place.
    pub(super) fn check(&self, tenant: TenantId, id: Uuid) -> Result<(), FileError> {
        let file = self.tenant(tenant).join(store::name(id));
        for way in self.ways(tenant).iter().chain([&file]) {
            match fs::symlink_metadata(way) {
                Ok(found) if found.is_symlink() => return Err(LINK),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(FileError::Folder(error)),
            }
        }
        Ok(())
    }

    /// That what was opened is what stands in the tenant's folder itself; `false` where nothing stands there any more.
    pub(super) fn check_opened(&self, tenant: TenantId, id: Uuid, opened: &fs::File) -> Result<bool, FileError> {
        self.check(tenant, id)?;
        let here = match fs::symlink_metadata(self.tenant(tenant).join(store::name(id))) {
            Ok(here) => here,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(FileError::Folder(error)),
        };
        let opened = opened.metadata().map_err(FileError::Folder)?;
        if (here.dev(), here.ino()) == (opened.dev(), opened.ino()) && here.is_file() {
            Ok(true)
        } else {
            Err(LINK)
        }
    }

    /// What stands in the tenant's folder; links and folders are nobody's files.
    pub(super) fn list(&self, tenant: TenantId) -> Result<Vec<Found>, FileError> {
        if !self.is_real(tenant)? {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        for entry in fs::read_dir(self.tenant(tenant)).map_err(FileError::Folder)? {
            let entry = entry.map_err(FileError::Folder)?;
            // Of the entry itself, not of what a link leads to.
            let metadata = match entry.metadata() {
                Ok(metadata) if metadata.is_file() => metadata,
                Ok(_) => continue,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(FileError::Folder(error)),
            };
            found.push(Found {
                name: entry.file_name().to_string_lossy().into_owned(),
                bytes: metadata.len(),
                modified: metadata.modified().map_err(FileError::Folder)?,
            });
        }
        Ok(found)
    }

    /// Whether the tenant has a folder, and it is one.
    fn is_real(&self, tenant: TenantId) -> Result<bool, FileError> {
        for way in self.ways(tenant) {
            match fs::symlink_metadata(way) {
                Ok(found) if found.is_dir() => {}
                Ok(_) => return Err(LINK),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
                Err(error) => return Err(FileError::Folder(error)),
            }
        }
        Ok(true)
    }

    /// Removes a file. A link in its place is removed itself; with one on the way nothing is.
    pub(super) fn remove(&self, tenant: TenantId, id: Uuid) -> Result<(), FileError> {
        if !self.is_real(tenant)? {
            return Ok(());
        }
        gone(fs::remove_file(self.tenant(tenant).join(store::name(id))))
    }

    /// Removes what an upload left that ended with its process.
    pub(super) fn remove_staged(&self, tenant: TenantId, name: &str) -> Result<(), FileError> {
        if name.contains('/') || !self.is_real(tenant)? {
            return Ok(());
        }
        gone(fs::remove_file(self.tenant(tenant).join(name)))
    }

    /// Removes the tenant's folder with all that is in it. A link is removed itself, and never what it leads to.
    pub(super) fn remove_all(&self, tenant: TenantId) -> Result<(), FileError> {
        let folder = self.tenant(tenant);
        match fs::symlink_metadata(self.root.join(store::FOLDER)) {
            Ok(found) if found.is_symlink() => return Err(LINK),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            _ => {}
        }
        match fs::symlink_metadata(&folder) {
            Ok(found) if found.is_dir() => gone(fs::remove_dir_all(&folder)),
            Ok(_) => gone(fs::remove_file(&folder)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(FileError::Folder(error)),
        }
    }
}

fn gone(removed: io::Result<()>) -> Result<(), FileError> {
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(FileError::Folder(error)),
        _ => Ok(()),
    }
}
