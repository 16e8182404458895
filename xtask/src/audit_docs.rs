//! The pages of `docs/audit/`, from the checks themselves.

use std::{path::Path, process::Command};

use anyhow::{Context, Result, bail};

/// Lets the command line write them.
pub(crate) fn run() -> Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/audit");
    let status = Command::new(env!("CARGO"))
        .args(["run", "--package", "tenantry-cli", "--", "audit", "--write-pages"])
        .arg(folder)
        .status()
        .context("cargo could not be started")?;
    if !status.success() {
        bail!("the pages were not written: {status}");
    }
    Ok(())
}
