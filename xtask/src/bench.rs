//! The whole benchmark in one run, as it is meant to be measured: optimised.

use anyhow::Result;

use crate::cargo::{cargo, finish};

/// Passed on to `tenantry bench`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Options of `tenantry bench`, for example `--write docs/benchmarks.md` or `--only point-1,http`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// Builds the command line for release and lets it measure.
pub(crate) fn run(options: &Options) -> Result<()> {
    let mut bench = cargo(&[
        "run",
        "--release",
        "--package",
        "tenantry-cli",
        "--features",
        "bench-sqlx",
    ]);
    bench.args(["--", "bench"]).args(&options.rest);
    finish(&mut bench, "the benchmark did not succeed")
}
