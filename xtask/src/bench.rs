//! The whole benchmark in one run, as it is meant to be measured: optimised.

use std::process::Command;

use anyhow::{Context, Result, bail};

/// Passed on to `tenantry bench`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Options of `tenantry bench`, for example `--write docs/benchmarks.md` or `--only point-1,http`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// Builds the command line for release and lets it measure.
pub(crate) fn run(options: &Options) -> Result<()> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args([
        "run",
        "--release",
        "--package",
        "tenantry-cli",
        "--features",
        "bench-sqlx",
    ]);
    cargo.args(["--", "bench"]);
    let status = cargo
        .args(&options.rest)
        .status()
        .context("cargo could not be started")?;
    if !status.success() {
        bail!("the benchmark did not succeed: {status}");
    }
    Ok(())
}
