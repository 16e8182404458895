//! Which user PostgreSQL runs as: it refuses to run as root, so root lends it to `postgres` or `nobody`.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::geteuid;

/// The user the server's processes run as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    name: String,
    /// `None`: the user we are ourselves.
    switch: Option<Ids>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ids {
    user: u32,
    group: u32,
}

/// Why PostgreSQL can't run as the user it would have to run as.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AccountError {
    /// We are root and have no user to lend PostgreSQL to.
    #[error(
        "PostgreSQL does not run as root, and this system has no user `postgres` or `nobody`: make one, or start this as an ordinary user"
    )]
    NoUser,
    /// The named user is not in `/etc/passwd`.
    #[error("there is no user `{name}` in /etc/passwd: name another one to run PostgreSQL as, or make this one")]
    UnknownUser {
        /// The name that was asked for.
        name: String,
    },
    /// Only root can start a server as somebody else.
    #[error("only root can run PostgreSQL as `{name}`: leave that option out, or start this as root")]
    NotRoot {
        /// The name that was asked for.
        name: String,
    },
    /// A folder on the way is closed to that user.
    #[error("PostgreSQL runs as `{user}`, who may not enter {}: run `chmod o+x {}`, or choose a folder elsewhere (for {})", .folder.display(), .folder.display(), .wanted.display())]
    ClosedFolder {
        /// The user PostgreSQL runs as.
        user: String,
        /// The folder that is closed.
        folder: PathBuf,
        /// What PostgreSQL wanted to reach.
        wanted: PathBuf,
    },
}

impl Account {
    /// The user to run PostgreSQL as: `wanted`; else ourselves, unless we are root; else `postgres`, else `nobody`.
    ///
    /// # Errors
    ///
    /// When that user does not exist, or only root could become it.
    pub fn choose(wanted: Option<&str>) -> Result<Self, AccountError> {
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        Self::choose_from(&passwd, geteuid().as_raw(), wanted)
    }

    fn choose_from(passwd: &str, euid: u32, wanted: Option<&str>) -> Result<Self, AccountError> {
        let lookup = |name: &str| {
            let ids = find(passwd, |entry| entry[0] == name)?;
            Some(Self {
                name: name.to_owned(),
                switch: (ids.user != euid).then_some(ids),
            })
        };
        match wanted {
            Some(name) => {
                let account = lookup(name).ok_or_else(|| AccountError::UnknownUser { name: name.to_owned() })?;
                if euid != 0 && account.switch.is_some() {
                    return Err(AccountError::NotRoot { name: name.to_owned() });
                }
                Ok(account)
            }
            None if euid == 0 => lookup("postgres")
                .or_else(|| lookup("nobody"))
                .ok_or(AccountError::NoUser),
            None => Ok(Self {
                name: format!("user {euid}"),
                switch: None,
            }),
        }
    }

    /// The user's name, for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Makes the command run as this user (with that user's group only).
    pub(crate) fn apply(&self, command: &mut Command) {
        if let Some(ids) = self.switch {
            command.uid(ids.user).gid(ids.group);
        }
    }

    /// Gives a file or folder to this user.
    pub(crate) fn own(&self, path: &Path) -> std::io::Result<()> {
        match self.switch {
            Some(ids) => chown(path, Some(ids.user), Some(ids.group)),
            None => Ok(()),
        }
    }

    /// Checks that this user may enter every folder above `wanted`.
    ///
    /// # Errors
    ///
    /// Names the first folder that is closed.
    pub(crate) fn check_reaches(&self, wanted: &Path) -> Result<(), AccountError> {
        let Some(ids) = self.switch else { return Ok(()) };
        let mut above: Vec<&Path> = wanted.ancestors().skip(1).collect();
        above.reverse();
        for folder in above {
            let Ok(meta) = fs::metadata(folder) else { continue };
            let mode = meta.permissions().mode();
            let bit = if meta.uid() == ids.user {
                0o100
            } else if meta.gid() == ids.group {
                0o010
            } else {
                0o001
            };
            if mode & bit == 0 {
                return Err(AccountError::ClosedFolder {
                    user: self.name.clone(),
                    folder: folder.to_owned(),
                    wanted: wanted.to_owned(),
                });
            }
        }
        Ok(())
    }
}

fn find(passwd: &str, wanted: impl Fn(&[&str]) -> bool) -> Option<Ids> {
    passwd
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|entry| entry.len() >= 4 && wanted(entry))
        .and_then(|entry| {
            Some(Ids {
                user: entry[2].parse().ok()?,
                group: entry[3].parse().ok()?,
            })
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n";
    const WITH_POSTGRES: &str = "root:x:0:0::/root:/bin/sh\npostgres:x:101:104::/:/bin/sh\nnobody:x:65534:65534::/:\n";

    #[test]
    fn root_lends_the_server_to_postgres_and_else_to_nobody() {
        assert_eq!(Account::choose_from(WITH_POSTGRES, 0, None).unwrap().name(), "postgres");
        assert_eq!(Account::choose_from(PASSWD, 0, None).unwrap().name(), "nobody");
        assert!(matches!(Account::choose_from("", 0, None), Err(AccountError::NoUser)));
    }

    #[test]
    fn an_ordinary_user_runs_it_and_can_not_become_another() {
        assert_eq!(Account::choose_from(PASSWD, 1000, None).unwrap().switch, None);
        assert!(matches!(
            Account::choose_from(PASSWD, 1000, Some("nobody")),
            Err(AccountError::NotRoot { .. })
        ));
        assert!(matches!(
            Account::choose_from(PASSWD, 0, Some("absent")),
            Err(AccountError::UnknownUser { .. })
        ));
        assert_eq!(
            Account::choose_from(PASSWD, 65534, Some("nobody")).unwrap().switch,
            None
        );
    }

    #[test]
    fn a_closed_folder_on_the_way_is_named_with_the_mend() {
        let outer = tempfile::tempdir().unwrap();
        let inner = outer.path().join("inner");
        fs::create_dir(&inner).unwrap();
        fs::set_permissions(outer.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let stranger = Account {
            name: "stranger".into(),
            switch: Some(Ids {
                user: 54321,
                group: 54321,
            }),
        };
        let error = stranger.check_reaches(&inner).unwrap_err().to_string();
        assert!(
            error.contains(&format!("chmod o+x {}", outer.path().display())),
            "{error}"
        );
        fs::set_permissions(outer.path(), fs::Permissions::from_mode(0o711)).unwrap();
        stranger.check_reaches(&inner).unwrap();
    }
}
