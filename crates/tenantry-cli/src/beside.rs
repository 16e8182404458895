//! What tenants have beside their rows, as the configuration names it: the cache in Redis, and files.

use std::{error::Error, path::Path, sync::Arc};

use async_trait::async_trait;
use tenantry::{
    TenantId,
    cache::{Cache, CacheConfig, Reach, RedisConfig},
    files::{Files, FilesConfig},
};
use tenantry_ops::{BackupStore, Beside};

use crate::{
    config::Config,
    failure::{Failure, chain},
};

/// The cache that the configuration names; one of this process where it names none.
///
/// # Errors
///
/// Usage, when the address can't be read.
pub(crate) fn cache(config: &Config) -> Result<Cache, Failure> {
    let mut cache = CacheConfig::default();
    cache.redis = config.redis_url.clone().map(RedisConfig::new);
    Cache::new(cache).map_err(|error| Failure::usage(format!("redis_url: {error}")))
}

/// The place of files that the configuration names.
///
/// # Errors
///
/// Usage, when the place can't be used.
pub(crate) fn files(config: &Config) -> Result<Option<Files>, Failure> {
    let open = |place: &String| {
        // A folder that is not there is on another machine, or not mounted: a purge here would leave the files where they are.
        if !place.contains("://") && !Path::new(place).is_dir() {
            return Err(Failure::usage(format!("files: there is no folder {place}")));
        }
        Files::at(place, FilesConfig::default())
            .map_err(|error| Failure::usage(format!("files: {}", chain(&anyhow::Error::new(error)))))
    };
    config.files.as_ref().map(open).transpose()
}

/// The place of backups that the configuration names.
///
/// # Errors
///
/// Usage, when the place can't be used.
pub(crate) fn backups(config: &Config) -> Result<Option<BackupStore>, Failure> {
    let open = |place: &String| {
        // A folder that is not there is on another machine, or not mounted: backups in its stead would be where nobody looks.
        if !place.contains("://") && !Path::new(place).is_dir() {
            return Err(Failure::usage(format!("backups: there is no folder {place}")));
        }
        BackupStore::at(place)
            .map_err(|error| Failure::usage(format!("backups: {}", chain(&anyhow::Error::new(error)))))
    };
    config.backups.as_ref().map(open).transpose()
}

/// What a purge takes with it, and a restore in place may make too old.
///
/// # Errors
///
/// Usage, when the configuration can't be used.
pub(crate) fn besides(config: &Config) -> Result<Vec<Arc<dyn Beside>>, Failure> {
    let mut besides: Vec<Arc<dyn Beside>> = Vec::new();
    if config.redis_url.is_some() {
        besides.push(Arc::new(InRedis(cache(config)?)));
    }
    if let Some(files) = files(config)? {
        besides.push(Arc::new(InFiles(files)));
    }
    Ok(besides)
}

#[derive(Debug)]
struct InRedis(Cache);

#[async_trait]
impl Beside for InRedis {
    fn name(&self) -> &'static str {
        "cached values"
    }

    async fn purge(&self, tenant: TenantId) -> Result<(), Box<dyn Error + Send + Sync>> {
        match self.0.purge_tenant(tenant).await {
            Reach::Everywhere => Ok(()),
            Reach::ThisProcess => Err("Redis does not answer".into()),
        }
    }

    /// Each value was made of rows.
    async fn outdate(&self, tenant: TenantId) -> Result<(), Box<dyn Error + Send + Sync>> {
        self.purge(tenant).await
    }

    async fn count(&self, tenant: TenantId) -> Result<Option<u64>, Box<dyn Error + Send + Sync>> {
        let counted = self.0.count_tenant(tenant).await;
        counted.map(Some).ok_or_else(|| "Redis does not answer".into())
    }
}

#[derive(Debug)]
struct InFiles(Files);

#[async_trait]
impl Beside for InFiles {
    fn name(&self) -> &'static str {
        "files"
    }

    async fn purge(&self, tenant: TenantId) -> Result<(), Box<dyn Error + Send + Sync>> {
        Ok(self.0.purge_tenant(tenant).await?)
    }

    async fn count(&self, tenant: TenantId) -> Result<Option<u64>, Box<dyn Error + Send + Sync>> {
        Ok(Some(self.0.count_tenant(tenant).await? as u64))
    }
}
