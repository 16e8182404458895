//! The long run of the tests that drop futures.

use std::process::Command;

use anyhow::{Context, Result, bail};

/// How long the run is.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Futures dropped in all, spread evenly over the three isolations.
    #[arg(long, default_value_t = 100_000)]
    drops: usize,
}

/// Runs the library's tests of dropped futures until so many were dropped.
pub(crate) fn run(options: &Options) -> Result<()> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["test", "--release", "--package", "tenantry", "--test", "it"]);
    cargo.args(["--", "dropped::every_future", "--nocapture"]);
    cargo.env("TENANTRY_DROPS", options.drops.div_ceil(3).to_string());
    let status = cargo.status().context("cargo could not be started")?;
    if !status.success() {
        bail!("a dropped future left something behind: {status}");
    }
    Ok(())
}
