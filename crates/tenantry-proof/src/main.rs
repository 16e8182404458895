//! Proofs that anyone can run: `cargo xtask attack` and `cargo xtask prove`.

mod attack;
mod interference;

use std::process::ExitCode;

use clap::Parser;

/// What can be proved.
#[derive(Parser)]
#[command(name = "tenantry-proof", bin_name = "cargo xtask")]
enum Proof {
    /// Runs every attack program against every isolation, tier and version; each has to fail.
    Attack(attack::Options),
    /// Compares what a tenant sees in two worlds that differ only in another tenant.
    Prove(interference::Options),
}

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Proof::parse() {
        Proof::Attack(options) => attack::run(&options).await,
        Proof::Prove(options) => interference::run(&options).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
