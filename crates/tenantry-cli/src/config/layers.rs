//! File, environment and options laid over each other, each value with where it came from.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fmt,
    path::{Path, PathBuf},
};

use secrecy::SecretString;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::{ConfigError, FILE_NAME, KEYS, Kind, Overrides, unknown};

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
    /// Reads the layers; `environment` holds our variables.
    pub(super) fn read(
        overrides: &Overrides,
        mut environment: BTreeMap<String, OsString>,
    ) -> Result<Self, ConfigError> {
        for name in environment.keys() {
            unknown::check_variable(name)?;
        }
        let mut values = BTreeMap::new();
        if let Some((path, mut table)) = read_file(overrides, environment.remove("TENANTRY_CONFIG"))? {
            for (key, _) in KEYS {
                if let Some(value) = table.remove(*key) {
                    values.insert(*key, (value, Origin::File(path.clone())));
                }
            }
            if let Some(unknown) = table.keys().next() {
                return Err(unknown::key(unknown, &path));
            }
        }
        for (key, kind) in KEYS {
            if let Some(text) = environment.remove(&variable(key)) {
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
            master_key: environment.remove("TENANTRY_MASTER_KEY"),
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
        let secret = matches!(key, "catalog_url" | "redis_url");
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

    /// Takes a place: a path, as above, or an address, which is left as it is.
    pub(super) fn take_location(&mut self, key: &str) -> Result<Option<String>, ConfigError> {
        let is_address = match self.values.get(key) {
            Some((Value::String(text), _)) => text.contains("://"),
            _ => false,
        };
        if is_address {
            return self.take(key);
        }
        let path = self.take_path(key)?;
        Ok(path.map(|path| path.to_string_lossy().into_owned()))
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

/// A key's name in the environment.
pub(super) fn variable(key: &str) -> String {
    format!("TENANTRY_{}", key.to_uppercase())
}

fn read_file(overrides: &Overrides, variable: Option<OsString>) -> Result<Option<(PathBuf, Table)>, ConfigError> {
    let named = overrides.config.clone().or_else(|| variable.map(PathBuf::from));
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
