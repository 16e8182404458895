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
    /// Only the tests of isolation and migrations, on homes that are made from finished definitions.
    #[arg(long, conflicts_with_all = ["package", "hardened"])]
    finished: bool,
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

/// The tests that would show where such a home is another one.
const ON_FINISHED: [&str; 5] = [
    "isolate_",
    "migrate_forms::",
    "migrate_later::",
    "migrate_data::",
    "migrate_ledger::",
];

/// Runs `cargo test` over the workspace with every feature, and once more what depends on how tenant databases and homes are made.
pub(crate) fn run(options: &Options) -> Result<()> {
    let is_one_of_them = options.hardened || options.finished;
    if !is_one_of_them {
        run_suite(options)?;
    }
    let is_whole = !is_one_of_them && options.package.is_none() && options.rest.is_empty();
    if options.hardened || is_whole {
        run_again(
            "TENANTRY_TEST_HARDENED",
            &ON_HARDENED,
            "tests on hardened databases failed",
        )?;
    }
    if options.finished || is_whole {
        run_again("TENANTRY_TEST_FINISHED", &ON_FINISHED, "tests on finished homes failed")?;
    }
    Ok(())
}

/// The same tests once more, with other fixtures.
fn run_again(variable: &str, tests: &[&str], said: &'static str) -> Result<()> {
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
    cargo.env(variable, "1");
    finish(cargo.args(tests), said)
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
