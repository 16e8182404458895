//! From the configuration to the use cases.

use std::path::Path;

use anyhow::Context;
use secrecy::{ExposeSecret, SecretString};
use tenantry_catalog::{Catalog, CatalogError, MasterKey};
use tenantry_ops::{Authority, FleetConfig, HardenedDatabases, IdentityConfig, Ops, PlanRule, Retention};

use crate::{
    application, beside,
    command::dev::{RunningDev, running_in},
    config::{Config, Hardening},
    failure::Failure,
};

/// Connects to the catalog that the configuration names, or else to that of a `dev` that runs in the current folder.
///
/// # Errors
///
/// Usage, when nothing says where the catalog is or what its key is; a failure when it can't be reached.
pub(crate) async fn ops(config: &Config) -> Result<Ops, Failure> {
    let (url, key) = catalog(config)?;
    let catalog = Catalog::connect(url.expose_secret(), &key).await;
    let catalog = match config.catalog_url {
        Some(_) => catalog.map_err(|error| unreachable(error, url.expose_secret()))?,
        // One that was killed could not take its dev.json away.
        None => catalog.context("can't use the `tenantry dev` of this folder (start it again, if it does not run)")?,
    };
    ops_on(catalog, config)
}

/// Which address did not answer, and who says so; never the password in it.
fn unreachable(error: CatalogError, url: &str) -> Failure {
    if !matches!(error, CatalogError::Unavailable(_)) {
        return error.into();
    }
    let (host, port) = url::Url::parse(url).map_or_else(
        |_| ("?".to_owned(), 5432),
        |url| {
            (
                url.host_str().unwrap_or("localhost").to_owned(),
                url.port().unwrap_or(5432),
            )
        },
    );
    let told = format!(
        "no catalog answers at {host}:{port}, as catalog_url (TENANTRY_CATALOG_URL) says: start its PostgreSQL, or mend the address"
    );
    Failure::from(anyhow::Error::new(error).context(told))
}

/// The use cases on a catalog, as the configuration wants them.
///
/// # Errors
///
/// Usage, when the configuration can't be used.
pub(crate) fn ops_on(catalog: Catalog, config: &Config) -> Result<Ops, Failure> {
    Ok(Ops::with_fleet(catalog, identity(config), fleet(config)?))
}

/// Whoever holds the catalog's address and its key at a command line may do everything; the audit log says so.
pub(crate) fn authority() -> Authority {
    Authority::system("command line")
}

/// Whether the configuration names a catalog, or a `dev` that runs in the current folder has one.
///
/// # Errors
///
/// When the file of a running `dev` can't be read.
pub(crate) fn names_a_catalog(config: &Config) -> Result<bool, Failure> {
    Ok(config.catalog_url.is_some() || running_in(Path::new("."))?.is_some())
}

/// Address and key of the catalog.
pub(crate) fn catalog(config: &Config) -> Result<(SecretString, MasterKey), Failure> {
    if let Some(url) = &config.catalog_url {
        return Ok((url.clone(), master_key(config)?));
    }
    match running_in(Path::new("."))? {
        Some(RunningDev {
            catalog_url,
            master_key_file,
        }) => {
            let key = MasterKey::from_file(&master_key_file)?;
            Ok((SecretString::from(catalog_url), key))
        }
        None => Err(Failure::usage(
            "no catalog: set TENANTRY_CATALOG_URL (or catalog_url in tenantry.toml), \
             or run this where `tenantry dev` runs",
        )),
    }
}

fn master_key(config: &Config) -> Result<MasterKey, Failure> {
    let key = match (&config.master_key, &config.master_key_file) {
        (Some(key), _) => MasterKey::parse(key.expose_secret()),
        (None, Some(file)) => MasterKey::from_file(file),
        (None, None) => {
            return Err(Failure::usage(
                "no master key: name its file by TENANTRY_MASTER_KEY_FILE (or master_key_file in tenantry.toml), \
                 or set TENANTRY_MASTER_KEY",
            ));
        }
    };
    key.map_err(|error| Failure::usage(format!("{:#}", anyhow::Error::new(error))))
}

/// What the configuration decides about tokens.
pub(crate) fn identity(config: &Config) -> IdentityConfig {
    IdentityConfig::new(config.issuer.clone(), config.audience.clone())
}

/// What the configuration decides about the fleet.
///
/// # Errors
///
/// Usage, when the name of a plan is none.
pub(crate) fn fleet(config: &Config) -> Result<FleetConfig, Failure> {
    let mut fleet = FleetConfig::default();
    fleet.retention = config.retention;
    fleet.spare_schemas = config.spare_schemas.into();
    fleet.spare_databases = config.spare_databases.into();
    fleet.hardening = match config.hardening {
        Hardening::Own => HardenedDatabases::Own,
        Hardening::All => HardenedDatabases::All,
        Hardening::None => HardenedDatabases::None,
    };
    fleet.migrations = Some(application::migrations(config)?);
    fleet.besides = beside::besides(config)?;
    fleet.backups = beside::backups(config)?;
    fleet.backup_interval = config.backup_interval.unwrap_or_default();
    fleet.backup_retention = Retention {
        last: config.backup_retention.last,
        daily: config.backup_retention.daily,
        weekly: config.backup_retention.weekly,
    };
    for (name, rule) in &config.plans {
        let plan = name
            .parse()
            .map_err(|error| Failure::usage(format!("plans: `{name}`: {error}")))?;
        fleet.plans.push(PlanRule {
            plan,
            isolation: rule.isolation,
            server: rule.server.clone(),
            region: rule.region.clone(),
        });
    }
    Ok(fleet)
}
