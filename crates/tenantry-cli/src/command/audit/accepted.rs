//! `tenantry-audit.toml`: findings that somebody looked at.

use std::path::Path;

use serde::Deserialize;
use tenantry_engine::audit::{Acceptances, Accepted};

use crate::{config::Config, failure::Failure};

/// The file that is read from the current folder where the configuration names no other.
const FILE_NAME: &str = "tenantry-audit.toml";

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    accepted: Vec<Accepted>,
}

/// What is accepted; nothing, where there is no file.
///
/// # Errors
///
/// Usage, where the file was named and is not there, or is not understood.
pub(crate) fn acceptances(config: &Config) -> Result<Acceptances, Failure> {
    let path = config.audit_accepted.as_deref().unwrap_or_else(|| Path::new(FILE_NAME));
    let shown = path.display();
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if config.audit_accepted.is_none() && error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(Acceptances::default());
        }
        Err(error) => return Err(Failure::usage(format!("{shown}: {error}"))),
    };
    let file: File = toml::from_str(&text).map_err(|error| Failure::usage(format!("{shown}: {error}")))?;
    Acceptances::new(file.accepted).map_err(|error| Failure::usage(format!("{shown}: {error}")))
}
