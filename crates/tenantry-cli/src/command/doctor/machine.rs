//! What can be seen without the catalog: programs, files and who may read them.

use std::{os::unix::fs::PermissionsExt, path::Path};

use tenantry_postgres::{Binaries, FindOptions};

use super::Finding;
use crate::config::{Config, FILE_NAME};

pub(super) fn look(config: &Config) -> Vec<Finding> {
    let mut findings = vec![programs()];
    if let Some(file) = &config.master_key_file {
        findings.push(private("master key", file));
    }
    if config.catalog_url_in_file && Path::new(FILE_NAME).exists() {
        findings.push(private("configuration", Path::new(FILE_NAME)));
    }
    if let Some(folder) = &config.migrations {
        findings.push(migrations(folder));
    }
    findings
}

/// Only `dev` needs them.
fn programs() -> Finding {
    match Binaries::find(&FindOptions::default()) {
        Ok(found) => Finding::well(
            "PostgreSQL here",
            format!(
                "{} in {}, for `tenantry dev`",
                found.version(),
                found.bin_dir().display()
            ),
        ),
        Err(error) => Finding::warning(
            "PostgreSQL here",
            error.to_string(),
            "only `tenantry dev` needs it; install it to use that",
        ),
    }
}

fn private(check: &'static str, file: &Path) -> Finding {
    let shown = file.display();
    match std::fs::metadata(file) {
        Err(error) => Finding::wrong(check, format!("{shown}: {error}"), "name the right file"),
        Ok(meta) if meta.permissions().mode() & 0o077 != 0 => Finding::warning(
            check,
            format!("{shown} holds a secret and can be read by others"),
            format!("chmod 600 {shown}"),
        ),
        Ok(_) => Finding::well(check, format!("{shown} is readable by its owner only")),
    }
}

fn migrations(folder: &Path) -> Finding {
    match tenantry_engine::migrate::Files::load(folder) {
        Ok(_) => Finding::well("migrations", folder.display().to_string()),
        Err(error) => Finding::wrong(
            "migrations",
            error.to_string(),
            "correct the file that the finding names",
        ),
    }
}
