//! File, environment and options laid over each other, each value with where it came from.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fmt,
    path::{Path, PathBuf},
};

use clap::Args;
use secrecy::SecretString;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::{ConfigError, FILE_NAME, KEYS, Kind};

/// The options that override the configuration.
#[derive(Args, Clone, Default, Debug)]
#[command(next_help_heading = "Configuration (each also in tenantry.toml and as TENANTRY_… in the environment)")]
pub(crate) struct Overrides {
    /// The configuration file [default: tenantry.toml, where there is one]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The control database, postgres://user:password@host:port/database
    #[arg(long, global = true, value_name = "URL", hide_short_help = true)]
    pub(crate) catalog_url: Option<String>,
    /// The file with the key that encrypts the catalog's secrets
    #[arg(long, global = true, value_name = "FILE", hide_short_help = true)]
    pub(crate) master_key_file: Option<String>,
    /// The address of `serve` [default: 127.0.0.1:8080]
    #[arg(long, global = true, value_name = "ADDRESS", hide_short_help = true)]
    pub(crate) listen: Option<String>,
    /// The domains below which each tenant has its host, as a TOML list
    #[arg(long, global = true, value_name = "LIST", hide_short_help = true)]
    pub(crate) domains: Option<String>,
    /// The `iss` claim of access tokens
    #[arg(long, global = true, value_name = "URL", hide_short_help = true)]
    pub(crate) issuer: Option<String>,
    /// The `aud` claim of access tokens
    #[arg(long, global = true, value_name = "AUDIENCE", hide_short_help = true)]
    pub(crate) audience: Option<String>,
    /// Addresses whose forwarded headers are believed, as a TOML list
    #[arg(long, global = true, value_name = "LIST", hide_short_help = true)]
    pub(crate) trusted_proxies: Option<String>,
    /// The folder with the application's migrations [default: those of the reference CRM]
    #[arg(long, global = true, value_name = "FOLDER", hide_short_help = true)]
    pub(crate) migrations: Option<String>,
    /// How long running requests may take to end after SIGTERM [default: 30]
    #[arg(long, global = true, value_name = "SECONDS", hide_short_help = true)]
    pub(crate) drain_timeout_s: Option<String>,
    /// How long a deleted tenant can be resumed before it is purged [default: 30]
    #[arg(long, global = true, value_name = "DAYS", hide_short_help = true)]
    pub(crate) retention_days: Option<String>,
    /// Where tenants of each plan are placed, as a TOML table
    #[arg(long, global = true, value_name = "TABLE", hide_short_help = true)]
    pub(crate) plans: Option<String>,
    /// Which log lines go to stderr, for example `info` or `tenantry_pool=debug`
    #[arg(long, global = true, value_name = "FILTER", hide_short_help = true)]
    pub(crate) log: Option<String>,
    /// How log lines look: text or json
    #[arg(long, global = true, value_name = "FORMAT", hide_short_help = true)]
    pub(crate) log_format: Option<String>,
}

impl Overrides {
    fn get(&self, key: &str) -> Option<&str> {
        match key {
            "catalog_url" => self.catalog_url.as_deref(),
            "master_key_file" => self.master_key_file.as_deref(),
            "listen" => self.listen.as_deref(),
            "domains" => self.domains.as_deref(),
            "issuer" => self.issuer.as_deref(),
            "audience" => self.audience.as_deref(),
            "trusted_proxies" => self.trusted_proxies.as_deref(),
            "migrations" => self.migrations.as_deref(),
            "drain_timeout_s" => self.drain_timeout_s.as_deref(),
            "retention_days" => self.retention_days.as_deref(),
            "plans" => self.plans.as_deref(),
            "log" => self.log.as_deref(),
            "log_format" => self.log_format.as_deref(),
            _ => None,
        }
    }
}

/// Where a value stands, as the user would look for it.
#[derive(Clone, Debug)]
enum Origin {
    File(PathBuf),
    Environment,
    Option,
}

impl Origin {
    fn place(&self, key: &str) -> Place<'_> {
        Place {
            origin: self,
            key: key.to_owned(),
        }
    }
}

struct Place<'a> {
    origin: &'a Origin,
    key: String,
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.origin {
            Origin::File(path) => write!(f, "{}: `{}`", path.display(), self.key),
            Origin::Environment => f.write_str(&variable(&self.key)),
            Origin::Option => write!(f, "--{}", self.key.replace('_', "-")),
        }
    }
}

/// The values of all layers, the strongest of each key.
#[derive(Debug)]
pub(super) struct Layers {
    values: BTreeMap<&'static str, (Value, Origin)>,
    master_key: Option<OsString>,
}

impl Layers {
    /// Reads the layers; `variable_of` reads the environment.
    pub(super) fn read(
        overrides: &Overrides,
        variable_of: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, ConfigError> {
        let mut values = BTreeMap::new();
        if let Some((path, mut table)) = read_file(overrides, &variable_of)? {
            for (key, _) in KEYS {
                if let Some(value) = table.remove(*key) {
                    values.insert(*key, (value, Origin::File(path.clone())));
                }
            }
            if let Some(unknown) = table.keys().next() {
                return Err(unknown_key(unknown, &path));
            }
        }
        for (key, kind) in KEYS {
            if let Some(text) = variable_of(&variable(key)) {
                let place = variable(key);
                let text = text
                    .into_string()
                    .map_err(|_| ConfigError::new(format!("{place} is not UTF-8")))?;
                values.insert(*key, (value_of(&text, *kind, &place)?, Origin::Environment));
            }
            if let Some(text) = overrides.get(key) {
                let place = Origin::Option.place(key).to_string();
                values.insert(*key, (value_of(text, *kind, &place)?, Origin::Option));
            }
        }
        Ok(Self {
            values,
            master_key: variable_of("TENANTRY_MASTER_KEY"),
        })
    }

    /// Whether the key's value, as long as it is not taken, comes from the file.
    pub(super) fn is_in_file(&self, key: &str) -> bool {
        matches!(self.values.get(key), Some((_, Origin::File(_))))
    }

    /// Takes a key's value, if it has one.
    pub(super) fn take<T: DeserializeOwned>(&mut self, key: &str) -> Result<Option<T>, ConfigError> {
        let Some((value, origin)) = self.values.remove(key) else {
            return Ok(None);
        };
        // The value itself stays out of the message: it may be a secret.
        let secret = key == "catalog_url";
        let read = value.try_into().map(Some);
        read.map_err(|error| match secret {
            true => ConfigError::new(format!("{} must be a text", origin.place(key))),
            false => ConfigError::new(format!("{}: {}", origin.place(key), error.to_string().trim())),
        })
    }

    /// Takes a path; one in the file counts from the file's folder, so that the command works from everywhere.
    pub(super) fn take_path(&mut self, key: &str) -> Result<Option<PathBuf>, ConfigError> {
        let folder = match self.values.get(key) {
            Some((_, Origin::File(file))) => file.parent().map(Path::to_owned),
            _ => None,
        };
        let path = self.take::<PathBuf>(key)?;
        Ok(path.map(|path| folder.map_or_else(|| path.clone(), |folder| folder.join(&path))))
    }

    /// The key from the environment, the only place where it may stand by itself.
    pub(super) fn master_key(&mut self) -> Result<Option<SecretString>, ConfigError> {
        let Some(text) = self.master_key.take() else {
            return Ok(None);
        };
        let text = text
            .into_string()
            .map_err(|_| ConfigError::new("TENANTRY_MASTER_KEY is not UTF-8"))?;
        Ok(Some(SecretString::from(text)))
    }
}

fn variable(key: &str) -> String {
    format!("TENANTRY_{}", key.to_uppercase())
}

fn read_file(
    overrides: &Overrides,
    variable_of: impl Fn(&str) -> Option<OsString>,
) -> Result<Option<(PathBuf, Table)>, ConfigError> {
    let named = overrides
        .config
        .clone()
        .or_else(|| variable_of("TENANTRY_CONFIG").map(PathBuf::from));
    let path = named.clone().unwrap_or_else(|| PathBuf::from(FILE_NAME));
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(ConfigError::new(format!("{}: {error}", path.display()))),
    };
    let path = std::path::absolute(&path).map_err(|error| ConfigError::new(format!("{}: {error}", path.display())))?;
    let table = text.parse::<Table>().map_err(|error| {
        // Only the place and the reason: the parser's full text repeats the line, which may hold a secret.
        let line = error
            .span()
            .map_or(1, |span| text[..span.start.min(text.len())].lines().count().max(1));
        ConfigError::new(format!("{}: line {line}: {}", path.display(), error.message()))
    })?;
    Ok(Some((path, table)))
}

fn value_of(text: &str, kind: Kind, place: &str) -> Result<Value, ConfigError> {
    match kind {
        Kind::Text => Ok(Value::String(text.to_owned())),
        Kind::Toml => {
            let table = format!("value = {text}").parse::<Table>();
            let value = table.ok().and_then(|mut table| table.remove("value"));
            value.ok_or_else(|| ConfigError::new(format!("{place}: `{text}` is not a TOML value")))
        }
    }
}

fn unknown_key(key: &str, path: &Path) -> ConfigError {
    let file = path.display();
    if key == "master_key" {
        return ConfigError::new(format!(
            "{file}: `master_key` may not stand in a file that others read: \
             name a file of mode 0600 as `master_key_file`, or set TENANTRY_MASTER_KEY"
        ));
    }
    let names = KEYS.iter().map(|(name, _)| *name);
    let nearest = names
        .clone()
        .min_by_key(|name| distance(key, name))
        .filter(|name| distance(key, name) <= 3);
    let mend = nearest.map_or_else(
        || format!("known keys: {}", names.collect::<Vec<_>>().join(", ")),
        |name| format!("did you mean `{name}`?"),
    );
    ConfigError::new(format!("{file}: unknown key `{key}`; {mend}"))
}

/// How many single-character changes lie between two words (Levenshtein).
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, l) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, r) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(l != *r);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[right.len()]
}
