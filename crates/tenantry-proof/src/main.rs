//! Proofs that anyone can run: `cargo xtask attack` and `cargo xtask prove`.

mod attack;
mod interference;

use std::process::ExitCode;

use clap::Parser;
use tokio::runtime::Builder;

/// What can be proved.
#[derive(Parser)]
#[command(name = "tenantry-proof", bin_name = "cargo xtask")]
enum Proof {
    /// Runs every attack program against every isolation, tier and version; each has to fail.
    Attack(attack::Options),
    /// Compares what a tenant sees in two worlds that differ only in another tenant.
    Prove(interference::Options),
}

fn main() -> ExitCode {
    let done = match Proof::parse() {
        Proof::Attack(options) => on(Builder::new_multi_thread(), attack::run(&options)),
        // One thread: the servers do the work, and threads that wake each other cost them their core.
        Proof::Prove(options) => on(Builder::new_current_thread(), interference::run(&options)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn on(mut runtime: Builder, work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    runtime.enable_all().build()?.block_on(work)
}
