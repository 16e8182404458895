//! The pages of `docs/audit/`, from the checks themselves.

use std::path::Path;

use anyhow::Result;

use crate::cargo::{cargo, finish};

/// Lets the command line write them.
pub(crate) fn run() -> Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/audit");
    let mut audit = cargo(&["run", "--package", "tenantry-cli", "--", "audit", "--write-pages"]);
    finish(audit.arg(folder), "the pages were not written")
}
