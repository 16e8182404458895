//! The cache: one tenant's values, computed once, never outdated, and never another's.

#[cfg(feature = "redis")]
mod faults;
mod flights;
mod in_process;
mod purged;
#[cfg(feature = "redis")]
mod redis;

use std::sync::Arc;

use tenantry::{
    PoolConfig, Scope, TenantId, Tenantry,
    cache::{Cache, CacheConfig},
};
use uuid::Uuid;

use crate::world::{Audit, Source};

/// A process, as far as the cache knows: a handle with a cache of its own. No database is asked for anything here.
struct Process {
    tenantry: Tenantry,
}

impl Process {
    fn new(config: CacheConfig) -> Self {
        let tenantry = Tenantry::from_source(
            Arc::new(Source::default()),
            Arc::new(Audit::default()),
            PoolConfig::default(),
        );
        Self {
            tenantry: tenantry.with_cache(Cache::new(config).unwrap()),
        }
    }

    async fn scope(&self, n: u128) -> Scope {
        self.tenantry.system_context(tenant(n), "test").await.unwrap()
    }

    fn cache(&self) -> &Cache {
        self.tenantry.cache()
    }
}

fn tenant(n: u128) -> TenantId {
    TenantId::from_uuid(Uuid::from_u128(n))
}

/// A key of which no two tests have the same, so that what is found of it comes from here.
fn canary() -> String {
    Uuid::now_v7().simple().to_string()
}
