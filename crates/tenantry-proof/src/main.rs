//! Proofs that anyone can run: `cargo xtask attack`, `cargo xtask prove` and `cargo xtask moves`.

mod attack;
mod interference;
mod ledger;
mod model;
mod moves;
mod rng;

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
    /// Breaks moves of tenants that are written to, at each of their steps; nothing may be lost, doubled or foreign.
    Moves(moves::Options),
    /// A process that moves a tenant, for `moves` to break.
    #[command(hide = true)]
    Mover(moves::MoverOptions),
}

fn main() -> ExitCode {
    let done = match Proof::parse() {
        Proof::Attack(options) => on(Builder::new_multi_thread(), attack::run(&options)),
        // One thread: the servers do the work, and threads that wake each other cost them their core.
        Proof::Prove(options) => on(Builder::new_current_thread(), interference::run(&options)),
        Proof::Moves(options) => on(Builder::new_multi_thread(), moves::run(&options)),
        Proof::Mover(options) => on(Builder::new_multi_thread(), moves::move_one(&options)),
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
