//! From the catalog's address to a handle.

use std::{env, path::Path, sync::Arc};

use secrecy::{ExposeSecret, SecretString};
use tenantry_catalog::{Catalog, CatalogError, ChangeEvent, MasterKey, MasterKeyError};
use tenantry_core::Change;
use tenantry_pool::{PoolConfig, Pools};

use crate::{
    Resolver, ResolverConfig, Tenantry, cache::Caches, catalog_shares::CatalogShares, catalog_source::CatalogSource,
    process::Process, usage,
};

/// What an application has to say to reach its tenants.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// The catalog, as `postgres://user:password@host:port/database`.
    pub catalog_url: SecretString,
    /// The key of the catalog's secrets.
    pub master_key: MasterKey,
    /// Whose tokens are accepted, and which hosts and proxies are believed.
    pub resolver: ResolverConfig,
    /// The bounds of the connection pools.
    pub pool: PoolConfig,
    /// The newest of the application's migrations that this program can't do without: a tenant that lacks it is answered
    /// [`ErrorKind::TenantMigrating`](crate::ErrorKind::TenantMigrating) until it is migrated. 0 for none; the
    /// installation may require more.
    pub schema_version_min: i64,
}

/// Why an application can't reach its tenants.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The environment does not say where the catalog is.
    #[error("no catalog: set TENANTRY_CATALOG_URL to its address, postgres://user:password@host:port/database")]
    NoCatalog,
    /// The environment names no master key, or none that is one.
    #[error(transparent)]
    MasterKey(#[from] MasterKeyError),
    /// The resolver's configuration can't be secure.
    #[error("{0}")]
    Resolver(String),
    /// The catalog can't be used.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

/// Issuer and audience of access tokens where nothing else is said.
const NAME: &str = "tenantry";

impl Config {
    /// Accepts the tokens of this installation, with the pools' usual bounds.
    pub fn new(catalog_url: impl Into<SecretString>, master_key: MasterKey) -> Self {
        Self {
            catalog_url: catalog_url.into(),
            master_key,
            resolver: ResolverConfig::new(NAME, NAME),
            pool: PoolConfig::default(),
            schema_version_min: 0,
        }
    }

    /// Reads `TENANTRY_CATALOG_URL`, `TENANTRY_MASTER_KEY` or `TENANTRY_MASTER_KEY_FILE`, and, where the installation
    /// has its own, `TENANTRY_ISSUER` and `TENANTRY_AUDIENCE`.
    ///
    /// # Errors
    /// When the catalog or the key is not named.
    pub fn from_env() -> Result<Self, ConnectError> {
        let catalog_url = env::var("TENANTRY_CATALOG_URL").map_err(|_| ConnectError::NoCatalog)?;
        let mut config = Self::new(catalog_url, MasterKey::from_env()?);
        if let Ok(issuer) = env::var("TENANTRY_ISSUER") {
            config.resolver.issuer = issuer;
        }
        if let Ok(audience) = env::var("TENANTRY_AUDIENCE") {
            config.resolver.audience = audience;
        }
        Ok(config)
    }

    /// The same with the key from a file.
    ///
    /// # Errors
    /// When the file holds no key.
    pub fn with_key_file(catalog_url: impl Into<SecretString>, file: &Path) -> Result<Self, ConnectError> {
        Ok(Self::new(catalog_url, MasterKey::from_file(file)?))
    }
}

impl Tenantry {
    /// Connects to the catalog: the usual way to a handle.
    ///
    /// # Errors
    /// When the catalog can't be reached or opened, or the configuration can't be secure.
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    pub async fn connect(config: Config) -> Result<Self, ConnectError> {
        let catalog = Catalog::connect(config.catalog_url.expose_secret(), &config.master_key).await?;
        Self::on_catalog_from(catalog, config.resolver, config.pool, config.schema_version_min)
    }

    /// A handle on a catalog that is connected already.
    ///
    /// # Errors
    /// When the resolver's configuration can't be secure.
    pub fn on_catalog(catalog: Catalog, resolver: ResolverConfig, pool: PoolConfig) -> Result<Self, ConnectError> {
        Self::on_catalog_from(catalog, resolver, pool, 0)
    }

    /// The same for a program that can't do without a migration, as [`Config::schema_version_min`] says.
    ///
    /// # Errors
    /// As [`on_catalog`](Self::on_catalog).
    pub fn on_catalog_from(
        catalog: Catalog,
        resolver: ResolverConfig,
        pool: PoolConfig,
        schema_version_min: i64,
    ) -> Result<Self, ConnectError> {
        let resolver = Resolver::start(catalog.clone(), resolver).map_err(ConnectError::Resolver)?;
        let source = Arc::new(CatalogSource::new(catalog.clone(), schema_version_min));
        let process = Arc::new(Process::new());
        let shares = Arc::new(CatalogShares::new(catalog.clone(), process.clone()));
        let pools = Pools::with_shares(source.clone(), pool, shares);
        let tenantry = Self::over_pools(pools, source, process.clone()).with_resolver(resolver);
        let (pools, meter) = (tenantry.pools().clone(), tenantry.meter().clone());
        let caches = tenantry.inner.caches.clone();
        let follower = tokio::spawn(async move {
            tokio::join!(
                follow(catalog.clone(), pools.clone(), caches),
                usage::keep(catalog.clone(), meter),
                usage::follow_processes(catalog, pools, process),
            );
        });
        Ok(tenantry.with_follower(follower))
    }
}

/// Forgets placements that changed, and what is cached of their tenants. Until the notification is there, the fence refuses what is out
/// of date.
async fn follow(catalog: Catalog, pools: Pools, caches: Caches) {
    let mut follower = catalog.follower();
    // The follower alone keeps the changes coming; the catalog's pool may end with its last user.
    drop(catalog);
    loop {
        match follower.next().await {
            ChangeEvent::Changed(Change::Tenant(tenant)) => {
                caches.forget(tenant);
                pools.invalidate(tenant).await;
            }
            ChangeEvent::Changed(Change::Shares) => pools.divide_anew(),
            ChangeEvent::Changed(Change::Plans) => pools.invalidate_all(),
            ChangeEvent::Changed(Change::Servers) => {
                pools.invalidate_all();
                pools.divide_anew();
            }
            ChangeEvent::Lost => {
                caches.forget_all();
                pools.invalidate_all();
                pools.divide_anew();
            }
            _ => {}
        }
    }
}
