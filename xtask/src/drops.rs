//! The long run of the tests that drop futures.

use anyhow::Result;

use crate::cargo::{cargo, finish};

/// How long the run is.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Futures dropped in all, spread evenly over the three isolations.
    #[arg(long, default_value_t = 100_000)]
    drops: usize,
}

/// Runs the library's tests of dropped futures until so many were dropped.
pub(crate) fn run(options: &Options) -> Result<()> {
    let mut tests = cargo(&["test", "--release", "--package", "tenantry", "--test", "it"]);
    tests.args(["--", "dropped::every_future", "--nocapture"]);
    tests.env("TENANTRY_DROPS", options.drops.div_ceil(3).to_string());
    finish(&mut tests, "a dropped future left something behind")
}
