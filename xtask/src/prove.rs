//! Noninterference, in a build with optimisation.

use std::process::Command;

use anyhow::{Context, Result, bail};

/// Passed on to the proof.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Options of the proof: `--statements N --seed S`, `--mutations`, `--channels`, `--replay file`, …
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// Runs `tenantry-proof prove`.
pub(crate) fn run(options: &Options) -> Result<()> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["run", "--release", "--package", "tenantry-proof", "--", "prove"]);
    let status = cargo
        .args(&options.rest)
        .status()
        .context("cargo could not be started")?;
    if !status.success() {
        bail!("the proof did not succeed: {status}");
    }
    Ok(())
}
