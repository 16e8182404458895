//! The whole test suite with plain cargo.

use anyhow::Result;

use crate::cargo::{cargo, finish};

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
    // Of the whole workspace, with whose features everything is built already.
    let mut cargo = cargo(&[
        "test",
        "--workspace",
        "--all-features",
        "--no-fail-fast",
        "--test",
        "it",
        "--",
    ]);
    cargo.env("TENANTRY_TEST_HARDENED", "1");
    finish(cargo.args(ON_HARDENED), "tests on hardened databases failed")
}

fn run_suite(options: &Options) -> Result<()> {
    let mut cargo = cargo(&["test", "--all-features"]);
    match &options.package {
        Some(package) => cargo.args(["--package", package]),
        None => cargo.args(["--workspace", "--no-fail-fast"]),
    };
    if !options.rest.is_empty() {
        cargo.arg("--").args(&options.rest);
    }
    finish(&mut cargo, "tests failed")
}
