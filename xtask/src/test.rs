//! The whole test suite with plain cargo.

use std::process::Command;

use anyhow::{Context, Result, bail};

/// Passed on to `cargo test`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only this package; all of them where left out.
    #[arg(long, short)]
    package: Option<String>,
    /// After `--`: a filter and options of the test runner.
    #[arg(last = true)]
    rest: Vec<String>,
}

/// Runs `cargo test` over the workspace with every feature.
pub(crate) fn run(options: &Options) -> Result<()> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["test", "--all-features"]);
    match &options.package {
        Some(package) => cargo.args(["--package", package]),
        None => cargo.args(["--workspace", "--no-fail-fast"]),
    };
    if !options.rest.is_empty() {
        cargo.arg("--").args(&options.rest);
    }
    let status = cargo.status().context("cargo could not be started")?;
    if !status.success() {
        bail!("tests failed: {status}");
    }
    Ok(())
}
