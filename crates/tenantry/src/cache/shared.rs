//! The cache of a process.

use std::{fmt, sync::Arc, time::Duration};

use tenantry_core::TenantId;

use super::{
    CacheConfig, CacheError, CacheStatus, Reach,
    config::TTL_MAX,
    local::Local,
    remote::{self, Remote},
    status::{Counters, RedisState},
};

/// The cache of a process, for all tenants: made once and given to [`Tenantry::with_cache`](crate::Tenantry::with_cache). Cheap to
/// clone.
///
/// Its values are reached through a scope. By itself it tells how it stands, and forgets a tenant that is purged.
#[derive(Clone)]
pub struct Cache(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) config: CacheConfig,
    pub(super) local: Local,
    pub(super) remote: Option<Remote>,
    pub(super) counters: Arc<Counters>,
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("config", &self.0.config)
            .finish_non_exhaustive()
    }
}

impl Default for Cache {
    /// In this process only, with the usual bounds.
    fn default() -> Self {
        Self::in_process(CacheConfig::default())
    }
}

impl Cache {
    /// A cache with these bounds. Redis is first looked for by the first call that needs it.
    ///
    /// # Errors
    ///
    /// [`CacheError::Address`].
    pub fn new(config: CacheConfig) -> Result<Self, CacheError> {
        let counters = Arc::new(Counters::default());
        let remote = remote::open(&config, &counters)?;
        Ok(Self::of(config, remote, counters))
    }

    fn in_process(config: CacheConfig) -> Self {
        Self::of(config, None, Arc::default())
    }

    fn of(config: CacheConfig, remote: Option<Remote>, counters: Arc<Counters>) -> Self {
        Self(Arc::new(Inner {
            local: Local::new(&config),
            config,
            remote,
            counters,
        }))
    }

    /// How it stands.
    pub fn status(&self) -> CacheStatus {
        let (entries, bytes) = self.0.local.size();
        CacheStatus {
            entries,
            bytes,
            redis: self.0.remote.as_ref().map_or(RedisState::None, Remote::state),
            ..self.0.counters.status()
        }
    }

    /// Forgets all of a tenant, here and in Redis, for the operation that purges a tenant; whoever serves one has
    /// [`ScopedCache::purge`](super::ScopedCache::purge). It takes the tenant by its id because a purged tenant has no scope any more, and
    /// can do nothing but forget.
    ///
    /// Other processes forget what they hold of it when the catalog tells them that it is purged.
    ///
    /// # Cancel safety
    ///
    /// What was begun goes on when dropped.
    pub async fn purge_tenant(&self, tenant: TenantId) -> Reach {
        let inner = Arc::clone(&self.0);
        let purged = tokio::spawn(async move {
            inner.local.purge(tenant);
            let reach = match &inner.remote {
                Some(remote) if remote.purge(tenant).await => Reach::Everywhere,
                _ => Reach::ThisProcess,
            };
            // What was read there before it was gone.
            inner.local.purge(tenant);
            reach
        });
        purged.await.unwrap_or(Reach::ThisProcess)
    }

    /// How many names in Redis hold a tenant's id, for whoever proves that a purge left nothing; 0 where there is no Redis, `None` where
    /// it does not answer. The generation that a purge makes is not counted: a random number that is gone after a day.
    ///
    /// # Cancel safety
    ///
    /// It only reads.
    pub async fn count_tenant(&self, tenant: TenantId) -> Option<u64> {
        match &self.0.remote {
            Some(remote) => remote.count(tenant).await,
            None => Some(0),
        }
    }
}

impl Inner {
    /// How long a value lives, and how long this process believes its own copy.
    pub(super) fn lives(&self, wanted: Option<Duration>) -> (Duration, Duration) {
        let ttl = wanted.unwrap_or(self.config.ttl).min(TTL_MAX);
        match self.remote {
            Some(_) => (ttl, ttl.min(self.config.local_ttl)),
            None => (ttl, ttl),
        }
    }
}
