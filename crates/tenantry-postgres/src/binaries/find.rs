//! Where PostgreSQL may already be on this machine.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Binaries;
use crate::version::{OLDEST_MAJOR, Version};

/// The environment variable that names the folder with PostgreSQL's programs.
const VARIABLE: &str = "TENANTRY_PG_BIN";

/// Folders in which every version has a folder of its own, with the programs below it.
const VERSIONED: &[(&str, &str, &str)] = &[
    // (folder, what the name of a version's folder begins with, the programs' folder in it)
    ("/usr/lib/postgresql", "", "bin"),
    ("/usr", "pgsql-", "bin"),
    ("/opt/homebrew/opt", "postgresql@", "bin"),
    ("/usr/local/opt", "postgresql@", "bin"),
    ("/home/linuxbrew/.linuxbrew/opt", "postgresql@", "bin"),
    ("/Applications/Postgres.app/Contents/Versions", "", "bin"),
    ("/Library/PostgreSQL", "", "bin"),
    ("/usr/lib", "postgresql", "bin"),
    ("/usr/libexec", "postgresql", ""),
    ("/opt", "postgresql", "bin"),
];

/// Folders with the programs of one version.
const PLAIN: &[&str] = &[
    "/usr/local/pgsql/bin",
    "/opt/homebrew/opt/postgresql/bin",
    "/usr/local/opt/postgresql/bin",
    "/usr/local/bin",
    "/usr/bin",
    "/opt/local/bin",
    "/run/current-system/sw/bin",
];

/// How to look for PostgreSQL.
#[derive(Clone, Debug, Default)]
pub struct FindOptions {
    /// The folder with the programs, as the user named it: it is this one or an error.
    pub bin_dir: Option<PathBuf>,
    /// Only this major version; else the newest, 15 at least.
    pub major: Option<u32>,
}

/// Why no PostgreSQL was found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FindError {
    /// The folder that the user named can't be used.
    #[error(
        "the PostgreSQL named by {source_name} can't be used: {reason}; name the folder that holds `postgres` and `initdb` of PostgreSQL {OLDEST_MAJOR} or newer"
    )]
    Named {
        /// `the option` or the environment variable.
        source_name: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// There is none, or none that is new enough.
    #[error("no PostgreSQL {wanted} here{}: {}, or name its folder of programs in TENANTRY_PG_BIN", seen(.too_old), .advice)]
    None {
        /// `15 or newer`, or the version that was asked for.
        wanted: String,
        /// Versions that were found and do not do.
        too_old: Vec<Version>,
        /// How one gets it on this system.
        advice: String,
    },
}

fn seen(versions: &[Version]) -> String {
    if versions.is_empty() {
        return String::new();
    }
    let list: Vec<String> = versions.iter().map(Version::to_string).collect();
    format!(" (only {})", list.join(", "))
}

impl Binaries {
    /// Finds PostgreSQL: the option, then `TENANTRY_PG_BIN`, then `pg_config`, the usual folders and those on the
    /// path, of which the newest version wins.
    ///
    /// # Errors
    ///
    /// When a named folder can't be used (no other is taken instead), or when there is none.
    pub fn find(options: &FindOptions) -> Result<Self, FindError> {
        let variable = std::env::var_os(VARIABLE)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from);
        let named = match (&options.bin_dir, &variable) {
            (Some(dir), _) => Some(("the option", dir)),
            (None, Some(dir)) => Some((VARIABLE, dir)),
            (None, None) => None,
        };
        if let Some((source_name, dir)) = named {
            let found = Self::at(dir, None).map_err(|reason| FindError::Named { source_name, reason })?;
            // The variable names the usual one; who asks for another version by number needs a second one beside it.
            if options.bin_dir.is_none() && options.major.is_some_and(|major| major != found.version.major) {
                return newest(candidates(), options.major);
            }
            return match refusal(found.version, options.major) {
                None => Ok(found),
                Some(reason) => Err(FindError::Named { source_name, reason }),
            };
        }
        newest(candidates(), options.major)
    }
}

fn newest(candidates: Vec<PathBuf>, major: Option<u32>) -> Result<Binaries, FindError> {
    let mut found: Vec<Binaries> = candidates
        .iter()
        .filter_map(|dir| Binaries::at(dir, None).ok())
        .collect();
    // Stable: among equals the earlier place wins.
    found.sort_by_key(|binaries| std::cmp::Reverse(binaries.version));
    let versions: BTreeSet<Version> = found.iter().map(|binaries| binaries.version).collect();
    found
        .into_iter()
        .find(|binaries| refusal(binaries.version, major).is_none())
        .ok_or_else(|| FindError::None {
            wanted: major.map_or_else(|| format!("{OLDEST_MAJOR} or newer"), |major| major.to_string()),
            too_old: versions.into_iter().collect(),
            advice: super::obtain::advice(),
        })
}

fn refusal(version: Version, major: Option<u32>) -> Option<String> {
    match major {
        Some(major) if version.major != major => Some(format!("it is version {version}, and {major} was asked for")),
        _ if version.major < OLDEST_MAJOR => Some(format!("it is version {version}")),
        _ => None,
    }
}

/// Every folder on this machine that may hold the programs, once each.
fn candidates() -> Vec<PathBuf> {
    let mut folders = Vec::new();
    folders.extend(from_pg_config());
    for (base, prefix, programs) in VERSIONED {
        folders.extend(versioned(Path::new(base), prefix, programs));
    }
    folders.extend(PLAIN.iter().map(PathBuf::from));
    folders.extend(std::env::var_os("PATH").iter().flat_map(std::env::split_paths));
    let mut seen = BTreeSet::new();
    folders.retain(|folder| folder.join("postgres").exists() && seen.insert(folder.canonicalize().ok()));
    folders
}

fn from_pg_config() -> Option<PathBuf> {
    let output = Command::new("pg_config").arg("--bindir").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(PathBuf::from(text.trim())).filter(|path| path.is_absolute())
}

fn versioned(base: &Path, prefix: &str, programs: &str) -> Vec<PathBuf> {
    let Ok(entries) = base.read_dir() else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| entry.path().join(programs))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A folder with programs that only tell a version.
    fn pretend(base: &Path, name: &str, version: &str) -> PathBuf {
        let bin = base.join(name).join("bin");
        fs::create_dir_all(&bin).unwrap();
        for program in ["postgres", "initdb"] {
            fs::write(
                bin.join(program),
                format!("#!/bin/sh\necho '{program} (PostgreSQL) {version}'\n"),
            )
            .unwrap();
            fs::set_permissions(bin.join(program), fs::Permissions::from_mode(0o755)).unwrap();
        }
        bin
    }

    #[test]
    fn the_newest_version_wins_and_an_old_one_is_never_taken() {
        let dir = tempfile::tempdir().unwrap();
        for version in ["14.11", "9.6.24", "15.6", "17.2", "16.9"] {
            pretend(dir.path(), version, version);
        }
        let found = |major| newest(versioned(dir.path(), "", "bin"), major);
        assert_eq!(found(None).unwrap().version(), Version { major: 17, minor: 2 });
        assert_eq!(found(Some(15)).unwrap().version(), Version { major: 15, minor: 6 });
        let error = found(Some(18)).unwrap_err().to_string();
        assert!(
            error.contains("no PostgreSQL 18 here (only 9.6, 14.11, 15.6"),
            "{error}"
        );
    }

    #[test]
    fn nothing_new_enough_is_one_sentence_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        pretend(dir.path(), "14", "14.11");
        let error = newest(versioned(dir.path(), "", "bin"), None).unwrap_err().to_string();
        assert!(
            error.starts_with("no PostgreSQL 15 or newer here (only 14.11): "),
            "{error}"
        );
        assert!(error.contains("TENANTRY_PG_BIN"), "{error}");
    }

    #[test]
    fn a_named_folder_is_used_or_refused_and_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let good = pretend(dir.path(), "with space", "16.1");
        let old = pretend(dir.path(), "old", "13.1");
        let find = |bin_dir: &Path| {
            Binaries::find(&FindOptions {
                bin_dir: Some(bin_dir.to_owned()),
                major: None,
            })
        };
        assert_eq!(find(&good).unwrap().version().major, 16);
        assert!(find(&old).unwrap_err().to_string().contains("it is version 13.1"));
        assert!(find(dir.path()).unwrap_err().to_string().contains("has no `postgres`"));
    }
}
