//! Running cargo.

use std::process::Command;

use anyhow::{Context, Result, bail};

/// Cargo with these arguments.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(arguments);
    cargo
}

/// Runs it to its end; `failed` says what it means that it did not succeed.
pub(crate) fn finish(cargo: &mut Command, failed: &str) -> Result<()> {
    let status = cargo.status().context("cargo could not be started")?;
    if !status.success() {
        bail!("{failed}: {status}");
    }
    Ok(())
}
