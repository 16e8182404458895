//! Automation of this repository: `cargo xtask <task>`.

mod attack;
mod audit_docs;
mod bench;
mod cargo;
mod drops;
mod features;
mod house;
mod moves;
mod prove;
mod scale;
mod test;

use std::process::ExitCode;

use clap::Parser;

/// What can be done here by one command.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Task {
    /// Passes every test: units, integration on a real PostgreSQL, documentation examples.
    Test(test::Options),
    /// Measures what is promised, in one run: `cargo xtask bench --write docs/benchmarks.md`.
    Bench(bench::Options),
    /// Measures large fleets, for half an hour: `cargo xtask scale --write`.
    Scale(scale::Options),
    /// Drops the library's futures at every await: `cargo xtask drops --drops 100000`.
    Drops(drops::Options),
    /// Writes the pages of `docs/audit/` from the checks.
    AuditDocs,
    /// Runs every attack program against an open database, where it must succeed, and against ours, where it must not.
    Attack(attack::Options),
    /// Compares what a tenant sees in two worlds: `cargo xtask prove --statements 50000 --seed 1`.
    Prove(prove::Options),
    /// Breaks moves at each step and checks every write: `cargo xtask moves --runs 500 --seed 1`.
    Moves(moves::Options),
    /// Holds the import directions of ARCHITECTURE.md and the claims of docs/features.md and docs/mistakes.md.
    House,
}

fn main() -> ExitCode {
    let done = match Task::parse() {
        Task::Test(options) => test::run(&options),
        Task::Bench(options) => bench::run(&options),
        Task::Scale(options) => scale::run(&options),
        Task::Drops(options) => drops::run(&options),
        Task::AuditDocs => audit_docs::run(),
        Task::Attack(options) => attack::run(&options),
        Task::Prove(options) => prove::run(&options),
        Task::Moves(options) => moves::run(&options),
        Task::House => house::run().and_then(|()| features::run()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
