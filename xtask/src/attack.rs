//! The attack suite: every program has to succeed on an open database and to fail on ours.

use anyhow::Result;

use crate::cargo::{cargo, finish};

/// Passed on to the suite.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Options of the suite, for example `--only token`, `--pg 18`, `--ground "shared sealed"`, `--tokens 250000`, `--json`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// Builds the proofs and attacks. Unoptimised: the time goes into PostgreSQL.
pub(crate) fn run(options: &Options) -> Result<()> {
    let mut suite = cargo(&["run", "--quiet", "--package", "tenantry-proof", "--", "attack"]);
    finish(suite.args(&options.rest), "the attack suite did not pass")
}
