//! The configuration: `tenantry.toml`, over it the environment (`TENANTRY_…`), over it the options.
//!
//! A key is written the same way everywhere: `catalog_url`, `TENANTRY_CATALOG_URL`, `--catalog-url`. A key that nobody
//! knows is an error, because a misspelt key that is silently ignored is a wrong configuration.

mod error;
mod layers;
mod overrides;
#[cfg(test)]
mod reference;
mod unknown;

use std::{collections::BTreeMap, net::SocketAddr, num::NonZeroUsize, path::PathBuf, time::Duration};

use secrecy::SecretString;
use serde::Deserialize;
use tenantry::{Network, OutsideIssuer};
use tenantry_core::Isolation;

pub(crate) use error::ConfigError;
use layers::Layers;
pub(crate) use overrides::Overrides;

/// The file that is read from the current folder where `--config` names no other.
pub(crate) const FILE_NAME: &str = "tenantry.toml";

/// What the configuration says. A command asks for what it needs by the methods, which say what is missing.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// `catalog_url`: the control database, as `postgres://user:password@host:port/database`.
    pub(crate) catalog_url: Option<SecretString>,
    /// Whether the address, which holds a password, stands in the file.
    pub(crate) catalog_url_in_file: bool,
    /// `master_key_file`: the file with the key that encrypts the catalog's secrets. The key itself may stand in the
    /// environment (`TENANTRY_MASTER_KEY`), but never in the file or among the options, where others can read it.
    pub(crate) master_key_file: Option<PathBuf>,
    /// `TENANTRY_MASTER_KEY`.
    pub(crate) master_key: Option<SecretString>,
    /// `listen`: the address of `serve`.
    pub(crate) listen: SocketAddr,
    /// `domains`: the domains below which each tenant has its host (`acme.example.com`).
    pub(crate) domains: Vec<String>,
    /// `issuer`: who issues the access tokens, as their `iss` claim says it.
    pub(crate) issuer: String,
    /// `audience`: for whom the access tokens are, as their `aud` claim says it.
    pub(crate) audience: String,
    /// `trusted_proxies`: the addresses whose forwarded headers are believed.
    pub(crate) trusted_proxies: Vec<String>,
    /// `outside_issuers`: other issuers whose access tokens are accepted.
    pub(crate) outside_issuers: Vec<OutsideIssuer>,
    /// `migrations`: the folder with the application's migrations. Left out, the application is the reference CRM.
    pub(crate) migrations: Option<PathBuf>,
    /// `minimum_version`: the number of the migration that the application can't do without. `serve` answers
    /// `tenant-migrating` for a tenant that lacks it; 0 for none.
    pub(crate) minimum_version: i64,
    /// `drain_delay_s`: how long `serve` goes on accepting after SIGTERM, while it says that it is not ready.
    pub(crate) drain_delay: Duration,
    /// `drain_timeout_s`: how long `serve` lets running requests end after SIGTERM.
    pub(crate) drain_timeout: Duration,
    /// `retention_days`: how long a deleted tenant can be resumed before it is purged.
    pub(crate) retention: Duration,
    /// `spare_schemas`: how many schemas `serve` keeps ready on each server for tenants with one of their own.
    pub(crate) spare_schemas: u16,
    /// `spare_databases`: how many databases `serve` keeps ready on each server for tenants with one of their own.
    pub(crate) spare_databases: u16,
    /// `server_connections`: how many connections `serve` asks for of each server's budget at most.
    pub(crate) server_connections: NonZeroUsize,
    /// `tenant_connections`: how many connections a tenant may use at a time while another one uses its database.
    pub(crate) tenant_connections: NonZeroUsize,
    /// `slow_statement_ms`: from how long on a statement is told in the log; 0 for never.
    pub(crate) slow_statement: Option<Duration>,
    /// `plans`: what a tenant's plan decides where the request leaves it open.
    pub(crate) plans: BTreeMap<String, PlanRule>,
    /// `hardening`: which tenant databases are hardened when they are made: `own`, `all` or `none`.
    pub(crate) hardening: Hardening,
    /// `audit_interval_h`: how often `serve` audits the tenant databases after its start, in hours or parts of one; 0 for
    /// never.
    pub(crate) audit_interval: Option<Duration>,
    /// `audit_accepted`: the file with the audit's findings that are accepted; `tenantry-audit.toml` where it is left out.
    pub(crate) audit_accepted: Option<PathBuf>,
    /// `redis_url`: the Redis in which the application caches, as `redis://user:password@host:port/database`: a purge clears a
    /// tenant's values there.
    pub(crate) redis_url: Option<SecretString>,
    /// `files`: where the application keeps files, a folder or `s3://bucket/prefix`: a purge removes a tenant's files there.
    pub(crate) files: Option<String>,
    /// `backups`: where backups of tenants stand, a folder or `s3://bucket/prefix`.
    pub(crate) backups: Option<String>,
    /// `backup_interval_h`: how old a tenant's newest backup gets before `serve` makes another, in hours or parts of one; 0 for
    /// never.
    pub(crate) backup_interval: Option<Duration>,
    /// `backup_retention`: how many backups of a tenant are kept: the last ones, and one of each of the last days and weeks.
    pub(crate) backup_retention: BackupRetention,
    /// `log`: which log lines are written to stderr; the command decides where nothing is said.
    pub(crate) log: Option<String>,
    /// `log_format`: `text` or `json`.
    pub(crate) log_format: LogFormat,
    /// `otlp_endpoint`: the OpenTelemetry collector that gets the span of each request, such as `http://localhost:4318`.
    pub(crate) otlp_endpoint: Option<String>,
}

/// Where tenants of a plan are placed.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PlanRule {
    /// The isolation of new tenants.
    pub(crate) isolation: Isolation,
    /// The server of new tenants, by name.
    pub(crate) server: Option<String>,
    /// The region of new tenants.
    pub(crate) region: Option<String>,
}

/// Which tenant databases are hardened when they are made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Hardening {
    /// Those of one tenant's own.
    #[default]
    Own,
    /// Shared ones too.
    All,
    /// None.
    None,
}

/// How many backups of a tenant are kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct BackupRetention {
    /// The last ones.
    pub(crate) last: usize,
    /// One of each of so many days.
    pub(crate) daily: usize,
    /// One of each of so many weeks.
    pub(crate) weekly: usize,
}

impl Default for BackupRetention {
    fn default() -> Self {
        let usual = tenantry_ops::Retention::default();
        Self {
            last: usual.last,
            daily: usual.daily,
            weekly: usual.weekly,
        }
    }
}

/// How log lines look.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// A JSON object a line.
    Json,
}

const DAY_S: u64 = 24 * 3600;

impl Config {
    /// Reads file, environment and options.
    ///
    /// # Errors
    ///
    /// Names the key and where it stands when a key is unknown or its value can't be used.
    pub(crate) fn load(overrides: &Overrides) -> Result<Self, ConfigError> {
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
            .filter(|(name, _)| name.starts_with("TENANTRY_"))
            .collect();
        let mut layers = Layers::read(overrides, environment)?;
        Self::from_layers(&mut layers)
    }

    /// The networks of the proxies that are believed.
    ///
    /// # Errors
    ///
    /// Names the one that is none.
    pub(crate) fn networks(&self) -> Result<Vec<Network>, ConfigError> {
        let network = |text: &String| {
            text.parse().map_err(|_| {
                ConfigError::new(format!(
                    "trusted_proxies: `{text}` is no network: write 10.0.0.0/8 or 127.0.0.1"
                ))
            })
        };
        self.trusted_proxies.iter().map(network).collect()
    }

    fn from_layers(layers: &mut Layers) -> Result<Self, ConfigError> {
        Ok(Self {
            catalog_url_in_file: layers.is_in_file("catalog_url"),
            catalog_url: layers.take("catalog_url")?,
            master_key_file: layers.take_path("master_key_file")?,
            master_key: layers.master_key()?,
            listen: layers
                .take("listen")?
                .unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 8080))),
            domains: layers.take("domains")?.unwrap_or_default(),
            issuer: layers.take("issuer")?.unwrap_or_else(|| "tenantry".to_owned()),
            audience: layers.take("audience")?.unwrap_or_else(|| "tenantry".to_owned()),
            trusted_proxies: layers.take("trusted_proxies")?.unwrap_or_default(),
            outside_issuers: layers.take("outside_issuers")?.unwrap_or_default(),
            migrations: layers.take_path("migrations")?,
            minimum_version: layers.take("minimum_version")?.unwrap_or(0),
            drain_delay: Duration::from_secs(layers.take("drain_delay_s")?.unwrap_or(0)),
            drain_timeout: Duration::from_secs(layers.take("drain_timeout_s")?.unwrap_or(30)),
            retention: Duration::from_secs(DAY_S * u64::from(layers.take::<u32>("retention_days")?.unwrap_or(30))),
            spare_schemas: layers.take("spare_schemas")?.unwrap_or(0),
            spare_databases: layers.take("spare_databases")?.unwrap_or(0),
            server_connections: layers.take("server_connections")?.unwrap_or(usual(64)),
            tenant_connections: layers.take("tenant_connections")?.unwrap_or(usual(4)),
            slow_statement: match layers.take("slow_statement_ms")?.unwrap_or(500) {
                0 => None,
                ms => Some(Duration::from_millis(ms)),
            },
            plans: layers.take("plans")?.unwrap_or_default(),
            hardening: layers.take("hardening")?.unwrap_or_default(),
            audit_interval: interval("audit_interval_h", layers.take("audit_interval_h")?.unwrap_or(24.0))?,
            audit_accepted: layers.take_path("audit_accepted")?,
            redis_url: layers.take("redis_url")?,
            files: layers.take_location("files")?,
            backups: layers.take_location("backups")?,
            backup_interval: interval("backup_interval_h", layers.take("backup_interval_h")?.unwrap_or(0.0))?,
            backup_retention: layers.take("backup_retention")?.unwrap_or_default(),
            log: layers.take("log")?,
            log_format: layers.take("log_format")?.unwrap_or_default(),
            otlp_endpoint: layers.take("otlp_endpoint")?,
        })
    }
}

fn usual(number: usize) -> NonZeroUsize {
    NonZeroUsize::new(number).unwrap_or(NonZeroUsize::MIN)
}

/// So many hours, parts of one too; 0 for never.
fn interval(key: &str, hours: f64) -> Result<Option<Duration>, ConfigError> {
    let interval = Duration::try_from_secs_f64(hours * 3600.0)
        .map_err(|_| ConfigError::new(format!("`{key}` must be hours, or 0 for never")))?;
    Ok((!interval.is_zero()).then_some(interval))
}

/// Every key, and how its text in the environment or in an option is read.
pub(crate) const KEYS: &[(&str, Kind)] = &[
    ("catalog_url", Kind::Text),
    ("master_key_file", Kind::Text),
    ("listen", Kind::Text),
    ("domains", Kind::Toml),
    ("issuer", Kind::Text),
    ("audience", Kind::Text),
    ("trusted_proxies", Kind::Toml),
    ("outside_issuers", Kind::Toml),
    ("migrations", Kind::Text),
    ("minimum_version", Kind::Toml),
    ("drain_delay_s", Kind::Toml),
    ("drain_timeout_s", Kind::Toml),
    ("retention_days", Kind::Toml),
    ("spare_schemas", Kind::Toml),
    ("spare_databases", Kind::Toml),
    ("server_connections", Kind::Toml),
    ("tenant_connections", Kind::Toml),
    ("slow_statement_ms", Kind::Toml),
    ("plans", Kind::Toml),
    ("hardening", Kind::Text),
    ("audit_interval_h", Kind::Toml),
    ("audit_accepted", Kind::Text),
    ("redis_url", Kind::Text),
    ("files", Kind::Text),
    ("backups", Kind::Text),
    ("backup_interval_h", Kind::Toml),
    ("backup_retention", Kind::Toml),
    ("log", Kind::Text),
    ("log_format", Kind::Text),
    ("otlp_endpoint", Kind::Text),
];

/// How a key's text in the environment or in an option is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// As it stands.
    Text,
    /// As a TOML value: `30`, `["10.0.0.1"]`, `{ free = { isolation = "shared" } }`.
    Toml,
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    fn load(file: &str, environment: &[(&str, &str)], overrides: &Overrides) -> Result<Config, ConfigError> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(FILE_NAME);
        std::fs::write(&path, file).expect("written");
        let overrides = Overrides {
            config: Some(path),
            ..overrides.clone()
        };
        let environment = environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), OsString::from(value)))
            .collect();
        Config::from_layers(&mut Layers::read(&overrides, environment)?)
    }

    #[test]
    fn environment_beats_the_file_and_an_option_beats_both() {
        let file = "listen = \"127.0.0.1:1\"";
        let none = Overrides::default();
        let port = |config: Config| config.listen.port();
        assert_eq!(load(file, &[], &none).map(port), Ok(1));
        let environment = [("TENANTRY_LISTEN", "127.0.0.1:2")];
        assert_eq!(load(file, &environment, &none).map(port), Ok(2));
        let option = Overrides {
            listen: Some("127.0.0.1:3".to_owned()),
            ..none
        };
        assert_eq!(load(file, &environment, &option).map(port), Ok(3));
    }

    #[test]
    fn an_unknown_key_is_an_error_that_names_key_and_file() {
        let error = load("catalog_ulr = \"x\"", &[], &Overrides::default())
            .expect_err("refused")
            .to_string();
        assert!(
            error.contains("catalog_ulr") && error.contains(FILE_NAME) && error.contains("catalog_url"),
            "{error}"
        );
        let error = load("[plans.free]\nisolatoin = \"shared\"", &[], &Overrides::default()).expect_err("refused");
        assert!(error.to_string().contains("isolatoin"), "{error}");
    }

    #[test]
    fn a_misspelt_variable_is_an_error_and_a_strange_one_is_not() {
        let error = load("", &[("TENANTRY_CATALOG_ULR", "x")], &Overrides::default()).expect_err("refused");
        assert!(error.to_string().contains("TENANTRY_CATALOG_URL"), "{error}");
        assert!(load("", &[("TENANTRY_TEST_CLUSTER", "x")], &Overrides::default()).is_ok());
    }

    #[test]
    fn a_wrong_value_is_an_error_that_names_where_it_stands() {
        let error = load("listen = 8080", &[], &Overrides::default())
            .expect_err("refused")
            .to_string();
        assert!(error.contains(FILE_NAME) && error.contains("listen"), "{error}");
        let environment = [("TENANTRY_DRAIN_TIMEOUT_S", "soon")];
        let error = load("", &environment, &Overrides::default())
            .expect_err("refused")
            .to_string();
        assert!(error.contains("TENANTRY_DRAIN_TIMEOUT_S"), "{error}");
        let option = Overrides {
            plans: Some("{ free = { isolation = \"moon\" } }".to_owned()),
            ..Overrides::default()
        };
        let error = load("", &[], &option).expect_err("refused").to_string();
        assert!(error.contains("--plans"), "{error}");
    }

    #[test]
    fn a_secret_is_not_in_the_error_about_it() {
        let error = load("catalog_url = 7", &[], &Overrides::default())
            .expect_err("refused")
            .to_string();
        assert!(error.contains("catalog_url"), "{error}");
        let broken = "catalog_url = \"postgres://u:hunter2@h/d\nlisten";
        let error = load(broken, &[], &Overrides::default())
            .expect_err("refused")
            .to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[test]
    fn the_master_key_itself_may_not_stand_in_the_file() {
        let error = load("master_key = \"00\"", &[], &Overrides::default())
            .expect_err("refused")
            .to_string();
        assert!(
            error.contains("master_key_file") && error.contains("TENANTRY_MASTER_KEY"),
            "{error}"
        );
    }

    #[test]
    fn paths_in_the_file_count_from_its_folder() {
        let config = load("migrations = \"migrations\"", &[], &Overrides::default()).expect("valid");
        let path = config.migrations.expect("set");
        assert!(path.is_absolute() && path.ends_with("migrations"), "{}", path.display());
    }
}
