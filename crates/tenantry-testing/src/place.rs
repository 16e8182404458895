//! Where tests keep their folders.

use std::path::{Path, PathBuf};

/// A file system in memory. Tests make and drop databases of three hundred files each; a disk's file system spends a fifth of the
/// tests' processor time on finding room for them, and syncs what is thrown away.
const MEMORY: &str = "/dev/shm";
/// What has to be free there, so that neither it nor the machine's memory runs full.
const ROOM_BYTES: u64 = 6 << 30;

/// The folder that tests make theirs in: what `TENANTRY_TEST_FOLDERS` names, else in memory where that has room, else the system's
/// folder for temporary files.
pub fn test_base() -> PathBuf {
    let named = std::env::var_os("TENANTRY_TEST_FOLDERS").map(PathBuf::from);
    let base = named
        .or_else(|| has_room(Path::new(MEMORY)).then(|| PathBuf::from(MEMORY)))
        .unwrap_or_else(std::env::temp_dir);
    base.canonicalize()
        .unwrap_or_else(|error| panic!("tests can't keep their folders in {}: {error}", base.display()))
}

fn has_room(folder: &Path) -> bool {
    let writable = rustix::fs::access(folder, rustix::fs::Access::WRITE_OK).is_ok();
    writable && rustix::fs::statvfs(folder).is_ok_and(|room| room.f_bavail.saturating_mul(room.f_frsize) >= ROOM_BYTES)
}
