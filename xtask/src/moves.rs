//! Moves of tenants under faults.

use anyhow::Result;

use crate::cargo::{cargo, finish};

/// Passed on to the proof.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Options of the proof: `--runs N --seed S`, `--only N`, `--faults kill-mover,stall`, `--lanes N`, `--trips N`, `--model`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// Runs `tenantry-proof moves`. Unoptimised: only such a build has places at which a move can be broken.
pub(crate) fn run(options: &Options) -> Result<()> {
    let mut proof = cargo(&["run", "--quiet", "--package", "tenantry-proof", "--", "moves"]);
    finish(proof.args(&options.rest), "the moves did not hold")
}
