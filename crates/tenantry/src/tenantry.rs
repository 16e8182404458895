//! The application's handle.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use tenantry_core::{Actor, Context, Role, ServerId, TenantDatabaseId, TenantId};
use tenantry_pool::{PlacementSource, PoolConfig, PoolStatus, Pools, ReplicaStatus, ServerStatus};

use crate::{
    Credentials, Error, Limiter, RecentUse, ResolveError, Resolver, Scope, Verified,
    cache::{Cache, Caches},
    jobs::JobWakes,
    meter::Meter,
    process::Process,
    usage,
};

/// The application's handle to all tenants: cheap to clone, made once.
#[derive(Clone)]
pub struct Tenantry {
    pub(crate) inner: Arc<Inner>,
    // Beside what is shared: a handle over a source of one's own may have none.
    resolver: Option<Resolver>,
    cache: Cache,
    #[cfg(feature = "files")]
    files: Option<crate::files::Files>,
    // Ends with the last handle.
    _follower: Option<Arc<AbortOnDrop>>,
}

/// A task that ends when this value is dropped.
pub(crate) struct AbortOnDrop(pub(crate) tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

pub(crate) struct Inner {
    audit: Arc<dyn SystemAudit>,
    pub(crate) pools: Pools,
    pub(crate) job_wakes: JobWakes,
    pub(crate) meter: Arc<Meter>,
    pub(crate) limiter: Limiter,
    pub(crate) process: Arc<Process>,
    /// That of each handle, to be told of tenants that changed.
    pub(crate) caches: Caches,
    #[cfg(feature = "sqlx")]
    pub(crate) sqlx: tenantry_pool::foreign::ForeignPools<crate::sqlx::PgDriver>,
    #[cfg(feature = "diesel")]
    pub(crate) diesel: tenantry_pool::foreign::ForeignPools<crate::diesel::DieselDriver>,
}

/// Takes down that the application acted by itself in a tenant.
#[async_trait]
pub trait SystemAudit: Send + Sync + 'static {
    /// Records it; access is given only once this succeeded.
    ///
    /// # Errors
    ///
    /// Why it is not recorded: nobody gets access then.
    async fn system_context(&self, tenant: TenantId, reason: &str) -> Result<(), Error>;
}

impl Tenantry {
    /// A handle over a source of placements of one's own; [`Tenantry::connect`] is the usual way.
    pub fn from_source(source: Arc<dyn PlacementSource>, audit: Arc<dyn SystemAudit>, pool: PoolConfig) -> Self {
        Self::over_pools(Pools::new(source, pool), audit, Arc::new(Process::new()))
    }

    pub(crate) fn over_pools(pools: Pools, audit: Arc<dyn SystemAudit>, process: Arc<Process>) -> Self {
        if tokio::runtime::Handle::try_current().is_ok() {
            // Ends with the last handle.
            pools.spawn_shrinking();
        }
        let (cache, caches) = (Cache::default(), Caches::default());
        caches.add(&cache);
        Self {
            inner: Arc::new(Inner {
                audit,
                #[cfg(feature = "sqlx")]
                sqlx: tenantry_pool::foreign::ForeignPools::new(pools.clone()),
                #[cfg(feature = "diesel")]
                diesel: tenantry_pool::foreign::ForeignPools::new(pools.clone()),
                pools,
                job_wakes: JobWakes::default(),
                meter: Arc::default(),
                limiter: Limiter::new(),
                process,
                caches,
            }),
            resolver: None,
            cache,
            #[cfg(feature = "files")]
            files: None,
            _follower: None,
        }
    }

    /// The same handle, which keeps this task running.
    pub(crate) fn with_follower(self, follower: tokio::task::JoinHandle<()>) -> Self {
        Self {
            _follower: Some(Arc::new(AbortOnDrop(follower))),
            ..self
        }
    }

    /// The same handle, which recognises callers with this resolver.
    #[must_use]
    pub fn with_resolver(self, resolver: Resolver) -> Self {
        Self {
            resolver: Some(resolver),
            ..self
        }
    }

    /// The same handle, whose scopes keep values in this cache.
    #[must_use]
    pub fn with_cache(self, cache: Cache) -> Self {
        self.inner.caches.add(&cache);
        Self { cache, ..self }
    }

    /// How the cache stands; its values are reached by [`Scope::cache`]. A cache of this process, where no other was given.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// The same handle, whose scopes keep files here.
    #[cfg(feature = "files")]
    #[must_use]
    pub fn with_files(self, files: crate::files::Files) -> Self {
        Self {
            files: Some(files),
            ..self
        }
    }

    /// Where files are kept; they are reached by [`Scope::files`].
    #[cfg(feature = "files")]
    pub fn files(&self) -> Option<&crate::files::Files> {
        self.files.as_ref()
    }

    /// What recognises callers.
    ///
    /// # Errors
    ///
    /// [`ResolveError::Unavailable`] for a handle that was made without one.
    pub fn resolver(&self) -> Result<&Resolver, ResolveError> {
        self.resolver.as_ref().ok_or_else(|| {
            tracing::error!("a request is to be resolved, but this Tenantry was made without a resolver");
            ResolveError::Unavailable
        })
    }

    /// The checked context of a request; see [`Resolver::resolve`].
    ///
    /// # Errors
    ///
    /// See [`ResolveError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves nothing behind.
    pub async fn resolve(&self, credentials: &Credentials<'_>) -> Result<Verified, ResolveError> {
        self.resolver()?.resolve(credentials).await
    }

    /// Access to one tenant, for a context that was verified.
    pub fn scope(&self, verified: Verified) -> Scope {
        Scope::new(self.clone(), verified)
    }

    /// Not public: its methods take a caller that nobody has verified.
    pub(crate) fn pools(&self) -> &Pools {
        &self.inner.pools
    }

    pub(crate) fn limiter(&self) -> &Limiter {
        &self.inner.limiter
    }

    /// How many processes divide what plans give, as far as this one knows.
    pub(crate) fn processes(&self) -> u32 {
        self.inner.process.among()
    }

    /// This process serves requests from now on: it has a part of what plans give, and the others that do have less.
    pub(crate) fn serve_requests(&self) {
        if self.inner.process.mark_serving() {
            // The leases say so at once, where there are any.
            self.pools().divide_anew();
        }
    }

    pub(crate) fn meter(&self) -> &Arc<Meter> {
        &self.inner.meter
    }

    /// What this process did for each tenant in the last whole minute (in its first one, so far), where requests came by way of
    /// [`TenantLayer`](crate::axum::TenantLayer).
    pub fn recent_use(&self) -> RecentUse {
        self.inner.meter.last()
    }

    /// Writes to the catalog what this process did for each tenant since the last time. It happens by itself each minute, and in
    /// [`close`](Self::close).
    ///
    /// # Errors
    ///
    /// When the catalog fails: then it is counted still, and written the next time.
    ///
    /// # Cancel safety
    ///
    /// What was not written when dropped is counted still. What was being written may be counted twice.
    pub async fn flush_usage(&self) -> Result<(), Error> {
        match &self.resolver {
            Some(resolver) => usage::flush(resolver.catalog(), self.meter()).await,
            None => Ok(()),
        }
    }

    /// How the connections to each tenant database stand, with those of sqlx and diesel.
    pub fn pool_status(&self) -> Vec<(TenantDatabaseId, PoolStatus)> {
        let each = self.pools().status().into_iter();
        #[cfg(feature = "sqlx")]
        let each = each.chain(self.inner.sqlx.status());
        #[cfg(feature = "diesel")]
        let each = each.chain(self.inner.diesel.status());
        let mut sums: BTreeMap<TenantDatabaseId, PoolStatus> = BTreeMap::new();
        for (database, status) in each {
            let sum = sums.entry(database).or_default();
            sum.open += status.open;
            sum.idle += status.idle;
            sum.waiting += status.waiting;
            sum.raw += status.raw;
        }
        sums.into_iter().collect()
    }

    /// How this process stands with each server: its share of the connections there, and how many of them exist.
    pub fn server_status(&self) -> Vec<(ServerId, ServerStatus)> {
        self.pools().server_status()
    }

    /// How the replicas stand that this process reads from: by the id that each has in the catalog.
    pub fn replica_status(&self) -> Vec<ReplicaStatus> {
        self.pools().replica_status()
    }

    /// Closes all connections, and gives this process's share of each server's to the others at once. Whoever asks afterwards
    /// waits in vain. Without it the share is free when the process's lease has ended.
    ///
    /// # Cancel safety
    ///
    /// What was begun goes on when dropped.
    pub async fn close(&self) {
        if let Err(error) = self.flush_usage().await {
            tracing::warn!(%error, "what tenants used in the last minute is not written down");
        }
        self.pools().close().await;
    }

    /// Forgets where a tenant lives: the next call asks again.
    ///
    /// # Cancel safety
    ///
    /// When dropped, it may be remembered still.
    pub async fn forget_placement(&self, tenant: TenantId) {
        self.pools().invalidate(tenant).await;
    }

    /// Forgets where all tenants live.
    pub fn forget_placements(&self) {
        self.pools().invalidate_all();
    }

    /// Access by the application itself, without a person: for jobs and maintenance. Each call is audited first.
    ///
    /// The role is [`Role::Owner`]; [`Scope::at_most`] takes rights away.
    ///
    /// # Errors
    ///
    /// When the audit log cannot be written: what can't be audited is not done.
    ///
    /// # Cancel safety
    ///
    /// When dropped, it is not known whether the audit log has it; nobody has access.
    pub async fn system_context(&self, tenant: TenantId, reason: &str) -> Result<Scope, Error> {
        self.inner.audit.system_context(tenant, reason).await?;
        let actor = Actor::System {
            reason: reason.to_owned(),
        };
        Ok(self.scope(Verified::new(Context {
            tenant,
            actor,
            role: Role::Owner,
        })))
    }
}
