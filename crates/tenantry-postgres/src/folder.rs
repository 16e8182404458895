//! Folders in shared places (the temp dir) that must be ours and nobody else's.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

/// Where things are kept between runs that are cheap to make again: `TENANTRY_CACHE`, else a folder per user in the
/// system's temp dir (the home folder of root is closed to the user PostgreSQL then runs as).
pub(crate) fn cache() -> io::Result<PathBuf> {
    let path = match std::env::var_os("TENANTRY_CACHE") {
        Some(path) => PathBuf::from(path),
        None => std::env::temp_dir().join(format!("tenantry-cache-{}", geteuid().as_raw())),
    };
    make_own(&path)?;
    path.canonicalize()
}

/// Makes a folder that others may enter but not change, or checks that an existing one is such a folder: whoever owns
/// a folder decides which binaries we run from it.
pub(crate) fn make_own(path: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o755).create(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    let meta = fs::symlink_metadata(path)?;
    if !meta.is_dir() || meta.uid() != geteuid().as_raw() || meta.mode() & 0o022 != 0 {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!(
                "{} is not a folder that only this user can write: remove it, or set TENANTRY_CACHE",
                path.display()
            ),
        ));
    }
    Ok(())
}
