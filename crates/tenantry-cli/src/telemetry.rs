//! Logs go to stderr; what they hold never includes secrets, because secrets are `SecretString` everywhere.

mod json;
#[cfg(feature = "otlp")]
mod otlp;

use std::{io::IsTerminal, sync::OnceLock};

use tracing::{Level, Metadata};
use tracing_subscriber::{
    EnvFilter, Layer as _, Registry,
    filter::{LevelFilter, filter_fn},
    layer::SubscriberExt as _,
    reload,
    util::SubscriberInitExt as _,
};

use crate::config::{ConfigError, LogFormat};

/// The administrative driver shows statements with their values, keys among them, at lower levels: whatever is asked for, those are
/// not shown. And of the catalog's connections not that one has ended: whoever needs it gets another one, or says so.
fn is_shown(line: &Metadata<'_>) -> bool {
    match line.target() {
        "deadpool.postgres" => *line.level() < Level::WARN,
        target => !target.starts_with("tokio_postgres") || *line.level() <= Level::INFO,
    }
}

/// Starts logging with a filter such as `info` or `tenantry_pool=debug`, and sending spans to a collector where one is named.
///
/// # Errors
///
/// When the filter can't be read, or this program can't send spans.
pub(crate) fn start(filter: &str, format: LogFormat, collector: Option<&str>) -> Result<(), ConfigError> {
    let filter = EnvFilter::try_new(filter).map_err(|error| {
        ConfigError::new(format!(
            "log: {error}; write for example `info` or `tenantry_pool=debug`"
        ))
    })?;
    let lines = match format {
        LogFormat::Text => tracing_subscriber::fmt::layer()
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal())
            .boxed(),
        LogFormat::Json => json::Lines::new(std::io::stderr).boxed(),
    };
    let started = tracing_subscriber::registry()
        .with(filter)
        .with(filter_fn(is_shown))
        .with(lines)
        .with(spans(collector)?)
        .try_init();
    started.map_err(|error| ConfigError::new(format!("logging can't start: {error}")))
}

#[cfg(feature = "otlp")]
fn spans(collector: Option<&str>) -> Result<Option<otlp::Spans>, ConfigError> {
    Ok(collector.map(otlp::Spans::to))
}

#[cfg(not(feature = "otlp"))]
fn spans(collector: Option<&str>) -> Result<Option<tracing_subscriber::layer::Identity>, ConfigError> {
    match collector {
        None => Ok(None),
        Some(_) => Err(ConfigError::new(
            "otlp_endpoint: this program was built without the feature `otlp`: build it with it, or leave the key out",
        )),
    }
}

/// Whether requests are logged as `serve` would, in a benchmark. What is off is off for each place in the code, and costs the lines that
/// measure something else nothing.
static AS_SERVE: OnceLock<reload::Handle<LevelFilter, Registry>> = OnceLock::new();

/// Starts logging for a benchmark: warnings as ever, and beside them what `serve` logs as JSON, to nowhere, while [`log_as_serve`] wants it.
///
/// # Errors
///
/// When something logs already.
pub(crate) fn start_for_benchmarks() -> Result<(), ConfigError> {
    let warnings = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_filter(filter_fn(|line| {
            line.is_event() && *line.level() <= Level::WARN && is_shown(line)
        }));
    let (level, switch) = reload::Layer::new(LevelFilter::OFF);
    let _ = AS_SERVE.set(switch);
    let as_serve = json::Lines::new(std::io::sink).with_filter(level);
    let started = tracing_subscriber::registry().with(as_serve).with(warnings).try_init();
    started.map_err(|error| ConfigError::new(format!("logging can't start: {error}")))
}

/// Switches what [`start_for_benchmarks`] has prepared.
pub(crate) fn log_as_serve(on: bool) {
    let level = if on { LevelFilter::INFO } else { LevelFilter::OFF };
    // Without the switch nothing logs as `serve` does.
    if let Some(Err(error)) = AS_SERVE.get().map(|switch| switch.reload(level)) {
        tracing::warn!(%error, "logging can't be switched");
    }
}
