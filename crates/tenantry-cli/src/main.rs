//! The command line `tenantry`: for operators, for CI, and `tenantry dev` for a first look.

mod application;
mod arguments;
mod bench;
mod beside;
mod command;
mod config;
mod connect;
mod failure;
mod lookup;
mod output;
mod password;
mod progress;
mod shutdown;
mod telemetry;
mod upgrade;

use std::process::ExitCode;

use clap::Parser;

use crate::{arguments::Arguments, failure::Failure, output::Output};

/// A request makes some dozens of small values and futures of a few kilobytes, which the system's allocator sweeps up again
/// and again: a sixth of a request's processor time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return failure::report_usage(&error),
    };
    let output = Output::new(arguments.json);
    match run(arguments, output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure::report(&failure, output),
    }
}

fn run(arguments: Arguments, output: Output) -> Result<(), Failure> {
    // Two crypto providers in one binary panic at the first use; this is the only place that chooses one.
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .map_err(|_| Failure::failed("a second crypto provider is linked into this binary: report this as a bug"))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("can't start the runtime: {error}")))?;
    runtime.block_on(command::run(arguments, output))
}
