//! The bounds of files.

use std::time::Duration;

use super::LinkKeys;

/// How much is kept, and who signs links.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FilesConfig {
    /// How many bytes a tenant may have where [`ScopedFiles::with_quota`](super::ScopedFiles::with_quota) says nothing else.
    pub tenant_bytes_max: u64,
    /// The largest file.
    pub file_bytes_max: u64,
    /// How much of a file is in memory while it is uploaded. Object stores take no parts below 5 MiB.
    pub part_bytes: usize,
    /// An upload that did not go on for so long is given up; must be longer than the slowest sender needs for one part.
    pub upload_idle_max: Duration,
    /// The keys of signed links; without them none are made or believed.
    pub link_keys: Option<LinkKeys>,
}

impl Default for FilesConfig {
    fn default() -> Self {
        const MIB: u64 = 1024 * 1024;
        Self {
            tenant_bytes_max: 10 * 1024 * MIB,
            file_bytes_max: 5 * 1024 * MIB,
            part_bytes: 8 * 1024 * 1024,
            upload_idle_max: Duration::from_secs(3600),
            link_keys: None,
        }
    }
}
