//! The cluster's folder: whose it is, and where its socket stands.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::StartError;
use crate::account::Account;

/// `sun_path` holds 104 bytes on the narrowest system, and the socket's file name with its `.lock` takes up to 25.
const SOCKET_FOLDER_BYTES: usize = 78;

/// Makes the cluster's folder, or checks an existing one. Root opens its own to the user the server runs as.
pub(super) fn prepare(folder: &Path, account: &Account) -> Result<PathBuf, StartError> {
    let failed = |doing, source| StartError::Folder {
        doing,
        path: folder.to_owned(),
        source,
    };
    if !folder.exists() {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o711)
            .create(folder)
            .map_err(|error| failed("make", error))?;
        // The mode above is cut by the umask; the server's user has to pass.
        fs::set_permissions(folder, fs::Permissions::from_mode(0o711)).map_err(|error| failed("open", error))?;
    }
    let folder = folder.canonicalize().map_err(|error| failed("use", error))?;
    account.check_reaches(&folder.join("data"))?;
    Ok(folder)
}

/// Takes the folder for this process until the file is closed, also by a kill: the system then frees the lock.
pub(super) fn lock(folder: &Path) -> Result<File, StartError> {
    let path = folder.join("lock");
    let failed = |source| StartError::Folder {
        doing: "lock",
        path: path.clone(),
        source,
    };
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(fs::TryLockError::WouldBlock) => {
            let mut text = String::new();
            let _ = file.read_to_string(&mut text);
            return Err(StartError::InUse {
                folder: folder.to_owned(),
                pid: text.trim().parse().ok(),
            });
        }
        Err(fs::TryLockError::Error(error)) => return Err(failed(error)),
    }
    file.set_len(0).and_then(|()| file.rewind()).map_err(failed)?;
    writeln!(file, "{}", std::process::id()).map_err(failed)?;
    Ok(file)
}

/// The folder of the unix socket, removed when dropped if it stands in the temp dir.
#[derive(Debug)]
pub(super) struct SocketFolder {
    path: PathBuf,
    note: Option<PathBuf>,
}

impl SocketFolder {
    /// Below the cluster's folder if a socket's path may be that long and needs no quoting, else in the temp dir, with
    /// a note of it so that the next start removes what a killed one left.
    pub(super) fn make(folder: &Path, account: &Account) -> Result<Self, StartError> {
        let note = folder.join("socket.path");
        remove_noted(&note);
        let own = folder.join("socket");
        if fits(&own) {
            let failed = |source| StartError::Folder {
                doing: "make",
                path: own.clone(),
                source,
            };
            match fs::DirBuilder::new().mode(0o700).create(&own) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed(error)),
            }
            account.own(&own).map_err(failed)?;
            return Ok(Self { path: own, note: None });
        }
        let base = Some(std::env::temp_dir()).filter(|dir| dir.as_os_str().len() < SOCKET_FOLDER_BYTES - 20);
        let base = base.unwrap_or_else(|| PathBuf::from("/tmp"));
        let failed = |source| StartError::Folder {
            doing: "make a socket folder in",
            path: base.clone(),
            source,
        };
        let made = tempfile::Builder::new()
            .prefix("tenantry-")
            .tempdir_in(&base)
            .map_err(failed)?;
        fs::write(&note, made.path().as_os_str().as_encoded_bytes()).map_err(failed)?;
        account.own(made.path()).map_err(failed)?;
        Ok(Self {
            path: made.keep(),
            note: Some(note),
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketFolder {
    fn drop(&mut self) {
        if let Some(note) = &self.note {
            let _ = fs::remove_dir_all(&self.path);
            let _ = fs::remove_file(note);
        }
    }
}

/// `unix_socket_directories` is a list: a path of plain characters needs no quoting in it.
fn fits(path: &Path) -> bool {
    let bytes = path.as_os_str().as_encoded_bytes();
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-".contains(byte);
    bytes.len() <= SOCKET_FOLDER_BYTES && bytes.iter().all(plain)
}

fn remove_noted(note: &Path) {
    let Ok(path) = fs::read_to_string(note) else { return };
    let path = Path::new(&path);
    // The note is ours; the check keeps a damaged one from naming anything but such a folder.
    let ours = path
        .file_name()
        .is_some_and(|name| name.to_string_lossy().starts_with("tenantry-"));
    if ours && path.is_absolute() {
        let _ = fs::remove_dir_all(path);
    }
    let _ = fs::remove_file(note);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_and_unplain_paths_get_their_socket_elsewhere() {
        assert!(fits(Path::new("/home/me/project/.tenantry/postgres/socket")));
        assert!(!fits(Path::new("/home/me/a project/socket")));
        assert!(!fits(Path::new("/home/me/a,b/socket")));
        assert!(!fits(&Path::new("/home").join("x".repeat(90))));
    }

    #[test]
    fn a_second_holder_is_refused_and_told_who_holds_it() {
        let dir = tempfile::tempdir().unwrap();
        let held = lock(dir.path()).unwrap();
        let error = lock(dir.path()).unwrap_err().to_string();
        assert!(
            error.contains(&format!("already in use by process {}", std::process::id())),
            "{error}"
        );
        drop(held);
        lock(dir.path()).unwrap();
    }
}
