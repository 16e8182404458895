//! The attack suite: every program has to succeed on an open database and to fail on ours.

use std::process::Command;

use anyhow::{Context, Result, bail};

/// Passed on to the suite.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Options of the suite, for example `--only token`, `--pg 18`, `--ground "shared sealed"`, `--tokens 250000`, `--json`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// Builds the proofs and attacks. Unoptimised: the time goes into PostgreSQL.
pub(crate) fn run(options: &Options) -> Result<()> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["run", "--quiet", "--package", "tenantry-proof", "--", "attack"]);
    let status = cargo
        .args(&options.rest)
        .status()
        .context("cargo could not be started")?;
    if !status.success() {
        bail!("the attack suite did not pass: {status}");
    }
    Ok(())
}
