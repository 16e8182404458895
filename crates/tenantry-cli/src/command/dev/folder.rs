//! `.tenantry/` below the current folder: what `dev` keeps, and the lock that makes it the only one there.
//!
//! | File | Holds |
//! |---|---|
//! | `lock` | the number of the process that runs here; locked as long as it does, so that a kill frees it |
//! | `master.key` | the key of the catalog's secrets (0600) |
//! | `state.json` | the log-ins of the demo tenants and the operator's key (0600) |
//! | `dev.json`, `dev.env` | addresses and log-ins, only while it runs (0600) |
//! | `postgres/` | the private PostgreSQL |

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use anyhow::Context;
use serde::{Serialize, de::DeserializeOwned};

/// The folder's name below the current folder.
pub(crate) const NAME: &str = ".tenantry";

/// The folder, ours until this value is dropped.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    _lock: File,
}

impl Folder {
    /// Makes the folder if it is new and takes it for this process.
    ///
    /// # Errors
    ///
    /// When another `dev` runs there, or the folder can't be written.
    pub(super) fn take(below: &Path) -> anyhow::Result<Self> {
        let path = below.join(NAME);
        if !path.exists() {
            DirBuilder::new()
                .mode(0o711)
                .create(&path)
                .with_context(|| format!("can't make {}", path.display()))?;
            // PostgreSQL's user has to pass through when root starts us, whatever the umask took away.
            fs::set_permissions(&path, fs::Permissions::from_mode(0o711))?;
        }
        let path = path
            .canonicalize()
            .with_context(|| format!("can't use {}", path.display()))?;
        let lock = lock(&path)?;
        let folder = Self { path, _lock: lock };
        // What a killed predecessor left would tell of a server that does not run.
        folder.remove("dev.json")?;
        folder.remove("dev.env")?;
        Ok(folder)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes a file that only we may read: complete or not at all.
    pub(super) fn write_secret(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let path = self.path.join(name);
        let staging = self.path.join(format!("{name}.new"));
        let write = || -> std::io::Result<()> {
            // One that a killed process left may have another mode.
            let _ = fs::remove_file(&staging);
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&staging)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&staging, &path)
        };
        write().with_context(|| format!("can't write {}", path.display()))
    }

    /// Writes a value as JSON, as [`write_secret`](Self::write_secret) does.
    pub(super) fn write_json(&self, name: &str, value: &impl Serialize) -> anyhow::Result<()> {
        self.write_secret(name, &format!("{}\n", serde_json::to_string_pretty(value)?))
    }

    /// Reads what [`write_json`](Self::write_json) wrote; `None` where there is no such file.
    pub(super) fn read_json<T: DeserializeOwned>(&self, name: &str) -> anyhow::Result<Option<T>> {
        let path = self.path.join(name);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("can't read {}", path.display())),
        };
        let value = serde_json::from_str(&text)
            .with_context(|| format!("{} is damaged: start over with `tenantry dev --fresh`", path.display()))?;
        Ok(Some(value))
    }

    /// Removes everything but the lock and PostgreSQL's folder.
    pub(super) fn clear(&self) -> anyhow::Result<()> {
        for name in ["master.key", "state.json", "dev.json", "dev.env"] {
            self.remove(name)?;
        }
        Ok(())
    }

    /// Removes a file; one that is not there is as good.
    pub(super) fn remove(&self, name: &str) -> anyhow::Result<()> {
        match fs::remove_file(self.path.join(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("can't remove {}", self.path.join(name).display()))
            }
            _ => Ok(()),
        }
    }
}

fn lock(folder: &Path) -> anyhow::Result<File> {
    let path = folder.join("lock");
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let mut file = options
        .open(&path)
        .with_context(|| format!("can't open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            let _ = file.read_to_string(&mut pid);
            anyhow::bail!(
                "`tenantry dev` already runs in {} (process {}): use that one, or stop it first",
                folder.parent().unwrap_or(folder).display(),
                pid.trim()
            );
        }
        Err(TryLockError::Error(error)) => {
            return Err(error).with_context(|| format!("can't lock {}", path.display()));
        }
    }
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_one_in_the_same_folder_is_refused_and_told_who_runs() {
        let below = tempfile::tempdir().expect("a folder");
        let held = Folder::take(below.path()).expect("the first");
        let refused = Folder::take(below.path()).expect_err("the second").to_string();
        assert!(refused.contains(&std::process::id().to_string()), "{refused}");
        drop(held);
        Folder::take(below.path()).expect("after the first has gone");
    }

    #[test]
    fn secrets_are_readable_by_their_owner_only() {
        let below = tempfile::tempdir().expect("a folder");
        let folder = Folder::take(below.path()).expect("taken");
        folder.write_secret("master.key", "00").expect("written");
        let mode = fs::metadata(folder.join("master.key"))
            .expect("there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn what_a_killed_predecessor_left_is_removed() {
        let below = tempfile::tempdir().expect("a folder");
        let folder = Folder::take(below.path()).expect("taken");
        folder.write_json("dev.json", &7).expect("written");
        drop(folder);
        let folder = Folder::take(below.path()).expect("taken again");
        assert!(!folder.join("dev.json").exists());
    }
}
