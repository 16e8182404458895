//! A folder of PostgreSQL's programs.

mod find;
mod obtain;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub use find::{FindError, FindOptions};
pub use obtain::{ObtainError, ObtainOptions};

use crate::version::Version;

/// PostgreSQL's programs (`initdb` and `postgres` at least) of one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binaries {
    bin_dir: PathBuf,
    library_dir: Option<PathBuf>,
    version: Version,
}

impl Binaries {
    /// The programs in `bin_dir`, asked for their version.
    ///
    /// # Errors
    ///
    /// A sentence that says what is wrong with that folder.
    pub(crate) fn at(bin_dir: &Path, library_dir: Option<&Path>) -> Result<Self, String> {
        let bin_dir = bin_dir
            .canonicalize()
            .map_err(|error| format!("{}: {error}", bin_dir.display()))?;
        for program in ["postgres", "initdb"] {
            if !bin_dir.join(program).is_file() {
                return Err(format!("{} has no `{program}`", bin_dir.display()));
            }
        }
        let mut found = Self {
            bin_dir,
            library_dir: library_dir.map(Path::to_owned),
            version: Version { major: 0, minor: 0 },
        };
        let output = found
            .command("postgres")
            .arg("--version")
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("{} does not run: {error}", found.bin_dir.join("postgres").display()))?;
        let text = String::from_utf8_lossy(&output.stdout);
        found.version = Version::parse(&text).ok_or_else(|| {
            let said = String::from_utf8_lossy(&output.stderr);
            format!(
                "{} does not tell its version: {}{}",
                found.bin_dir.join("postgres").display(),
                text.trim(),
                said.trim()
            )
        })?;
        Ok(found)
    }

    /// The folder with the programs.
    pub fn bin_dir(&self) -> &Path {
        &self.bin_dir
    }

    /// The version of `postgres` there.
    pub fn version(&self) -> Version {
        self.version
    }

    /// A program of this folder, if it is there: `psql` and `pg_dump` are not part of every package.
    pub fn program(&self, name: &str) -> Option<PathBuf> {
        let path = self.bin_dir.join(name);
        path.is_file().then_some(path)
    }

    /// A command for one of the programs, with the library path it needs and without the caller's `PG…` variables,
    /// which would redirect it.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.bin_dir.join(program));
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"PG") {
                command.env_remove(&name);
            }
        }
        if let Some(dir) = &self.library_dir {
            let variable = if cfg!(target_os = "macos") {
                "DYLD_LIBRARY_PATH"
            } else {
                "LD_LIBRARY_PATH"
            };
            let earlier = std::env::var_os(variable).filter(|path| !path.is_empty());
            let mut path = dir.clone().into_os_string();
            if let Some(earlier) = earlier {
                path.push(OsStr::new(":"));
                path.push(earlier);
            }
            command.env(variable, path);
        }
        command
    }
}
