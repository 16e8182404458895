//! The large fleets of docs/scale.md, which take half an hour.

use anyhow::Result;

use crate::cargo::{cargo, finish};

/// Passed on to `tenantry bench`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Measure only these: `noisy`, `million`, `schemas`, `skew`, `servers`.
    #[arg(long, value_delimiter = ',', default_values_t = ["noisy", "million", "schemas", "skew", "servers"].map(str::to_owned))]
    only: Vec<String>,
    /// Write the table into docs/scale.md.
    #[arg(long)]
    write: bool,
}

/// Builds the command line for release and lets it measure each on a PostgreSQL of its own, so that none finds what another
/// has left.
pub(crate) fn run(options: &Options) -> Result<()> {
    let mut missed = Ok(());
    for line in &options.only {
        let mut bench = cargo(&[
            "run",
            "--release",
            "--package",
            "tenantry-cli",
            "--features",
            "bench-sqlx",
        ]);
        bench.args(["--", "bench", "--rounds", "5", "--only", line, "--marks", line]);
        if options.write {
            bench.args(["--write", "docs/scale.md"]);
        }
        // The others are measured all the same.
        missed = missed.and(finish(&mut bench, &format!("`{line}` did not reach what it should")));
    }
    missed
}
