//! Logs go to stderr; what they hold never includes secrets, because secrets are `SecretString` everywhere.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::{ConfigError, LogFormat};

/// Starts logging with a filter such as `info` or `tenantry_pool=debug`.
///
/// # Errors
///
/// When the filter can't be read.
pub(crate) fn start(filter: &str, format: LogFormat) -> Result<(), ConfigError> {
    let filter = EnvFilter::try_new(filter).map_err(|error| {
        ConfigError::new(format!(
            "log: {error}; write for example `info` or `tenantry_pool=debug`"
        ))
    })?;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Text => subscriber.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => subscriber.json().try_init(),
    };
    started.map_err(|error| ConfigError::new(format!("logging can't start: {error}")))
}
