//! The commands, a file for each, and what they share.

pub(crate) mod adopt;
pub(crate) mod audit;
pub(crate) mod backup;
pub(crate) mod bench;
pub(crate) mod completions;
pub(crate) mod dev;
pub(crate) mod doctor;
pub(crate) mod init;
pub(crate) mod job;
pub(crate) mod member;
pub(crate) mod migrate;
pub(crate) mod operation;
pub(crate) mod plan;
pub(crate) mod serve;
pub(crate) mod server;
pub(crate) mod signing_key;
pub(crate) mod tenant;
pub(crate) mod token;

use crate::{
    arguments::{Arguments, Command},
    config::Config,
    failure::Failure,
    output::Output,
    telemetry,
};

/// Runs the command.
pub(crate) async fn run(arguments: Arguments, output: Output) -> Result<(), Failure> {
    // What neither needs nor wants a configuration.
    match &arguments.command {
        Command::Completions(completions) => return completions::run(completions, output),
        Command::Init(init) => return init::run(init, output),
        _ => {}
    }
    let config = Config::load(&arguments.overrides)?;
    match &arguments.command {
        Command::Bench(_) => telemetry::start_for_benchmarks()?,
        _ => telemetry::start(
            &log_filter(&arguments, &config),
            config.log_format,
            config.otlp_endpoint.as_deref(),
        )?,
    }
    match arguments.command {
        Command::Dev(dev) => dev::run(dev, config, output).await,
        Command::Adopt(adopt) => adopt::run(adopt, config, output).await,
        Command::Serve(serve) => serve::run(serve, config, output).await,
        Command::Tenant(tenant) => tenant::run(tenant, &config, output).await,
        Command::Backup(backup) => backup::run(backup, &config, output).await,
        Command::Member(member) => member::run(member, &config, output).await,
        Command::Job(job) => job::run(job, &config, output).await,
        Command::Operation(operation) => operation::run(operation, &config, output).await,
        Command::Plan(plan) => plan::run(plan, &config, output).await,
        Command::Server(server) => server::run(server, &config, output).await,
        Command::Migrate(migrate) => migrate::run(migrate, &config, output).await,
        Command::Token(token) => token::run(token, &config, output).await,
        Command::SigningKey(key) => signing_key::run(key, &config, output).await,
        Command::Audit(audit) => audit::run(audit, &config, output).await,
        Command::Doctor(doctor) => doctor::run(doctor, &config, output).await,
        Command::Bench(bench) => bench::run(bench, output).await,
        Command::Completions(_) | Command::Init(_) => Ok(()),
    }
}

/// The driver repeats every notice of the server's at `info`.
const QUIET_DRIVER: &str = "info,tokio_postgres=warn";

/// A server tells what it does; a command answers, and logs only what is wrong.
fn log_filter(arguments: &Arguments, config: &Config) -> String {
    if let Some(filter) = &config.log {
        return filter.clone();
    }
    let serves = matches!(arguments.command, Command::Serve(_));
    // It stops the server that it logs about, and tells every failure itself.
    let tells_all = matches!(arguments.command, Command::Adopt(_));
    match arguments.verbose {
        0 if serves => QUIET_DRIVER,
        0 if tells_all => "off",
        0 => "warn",
        1 => QUIET_DRIVER,
        _ => "debug",
    }
    .to_owned()
}
