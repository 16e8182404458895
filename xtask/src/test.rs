//! The whole test suite with plain cargo.

use std::process::Command;

use anyhow::{Context, Result, bail};

/// Passed on to `cargo test`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only this package; all of them where left out.
    #[arg(long, short)]
    package: Option<String>,
    /// Only the tests of the seal, the fence, migrations and the library, on hardened tenant databases.
    #[arg(long, conflicts_with = "package")]
    hardened: bool,
    /// After `--`: a filter and options of the test runner.
    #[arg(last = true)]
    rest: Vec<String>,
}

/// The tests that would show what hardening breaks.
const ON_HARDENED: [&str; 9] = [
    "seal",
    "fence::",
    "harden::",
    "migrate_later::",
    "migrate_data::",
    "scope::",
    "transaction::",
    "isolation::",
    "raw::",
];

/// Runs `cargo test` over the workspace with every feature, and on hardened databases what depends on them.
pub(crate) fn run(options: &Options) -> Result<()> {
    if !options.hardened {
        run_suite(options)?;
    }
    let is_whole = options.package.is_none() && options.rest.is_empty();
    if options.hardened || is_whole {
        run_on_hardened()?;
    }
    Ok(())
}

/// The same tests once more, with fixtures that harden their databases.
fn run_on_hardened() -> Result<()> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.env("TENANTRY_TEST_HARDENED", "1");
    // Of the whole workspace, with whose features everything is built already.
    cargo.args([
        "test",
        "--workspace",
        "--all-features",
        "--no-fail-fast",
        "--test",
        "it",
        "--",
    ]);
    let status = cargo.args(ON_HARDENED).status().context("cargo could not be started")?;
    if !status.success() {
        bail!("tests on hardened databases failed: {status}");
    }
    Ok(())
}

fn run_suite(options: &Options) -> Result<()> {
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
