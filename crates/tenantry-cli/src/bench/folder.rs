//! A folder below the system's temporary one, for servers and files of one run.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use uuid::Uuid;

/// Removed with all that is in it when this is dropped: after whatever works in it.
#[derive(Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    /// Its name begins like this.
    ///
    /// # Errors
    ///
    /// When the system does not let it be made.
    pub(super) fn make(name: &str) -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("{name}-{}", Uuid::now_v7().simple()));
        fs::create_dir(&path)?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What stays in a temporary folder harms nobody.
        let _ = fs::remove_dir_all(&self.0);
    }
}
