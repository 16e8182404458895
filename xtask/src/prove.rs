//! Noninterference, in a build with optimisation.

use anyhow::Result;

use crate::cargo::{cargo, finish};

/// Passed on to the proof.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Options of the proof: `--statements N --seed S`, `--mutations`, `--channels`, `--replay file`, …
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// Runs `tenantry-proof prove`.
pub(crate) fn run(options: &Options) -> Result<()> {
    let mut proof = cargo(&["run", "--release", "--package", "tenantry-proof", "--", "prove"]);
    finish(proof.args(&options.rest), "the proof did not succeed")
}
