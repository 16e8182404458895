//! All pools of a process, and calls by way of them.

mod ahead;
mod caller;
mod calls;
mod refusal;
mod way;

pub use caller::Caller;
pub(crate) use refusal::{Patience, Verdict, may_be_cut, meaning, verdict, weigh};
pub(crate) use way::Refresh;

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tenantry_core::{Placement, ServerId, TenantDatabaseId, TenantId};
use tokio::sync::Notify;

use crate::{
    Error, Grant, PlacementSource, PoolConfig, PoolStatus, ServerStatus,
    placements::Placements,
    replica::ReplicaStatus,
    shares::{self, ShareSource},
    waiting::Waiting,
};

/// All pools of a process: cheap to clone.
#[derive(Clone)]
pub struct Pools {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) placements: Placements,
    pub(crate) config: Arc<PoolConfig>,
    pub(crate) closing: Closing,
    waiting: Waiting,
}

/// How far the end of all pools is.
#[derive(Default)]
pub(crate) struct Closing {
    pub(crate) asked: AtomicBool,
    pub(crate) is_done: AtomicBool,
    pub(crate) done: Notify,
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Who keeps the shares notices that nobody needs them any more.
        self.placements.news.notify_one();
    }
}

impl Pools {
    /// Pools that ask `source` where tenants live, with as many connections to each server as the configuration says.
    pub fn new(source: Arc<dyn PlacementSource>, config: PoolConfig) -> Self {
        Self::make(source, config, false)
    }

    /// Pools that share the connections to each server with other processes, as `shares` says. Needs a runtime.
    pub fn with_shares(source: Arc<dyn PlacementSource>, config: PoolConfig, shares: Arc<dyn ShareSource>) -> Self {
        let pools = Self::make(source, config, true);
        shares::keep(&pools.shared, shares);
        pools
    }

    fn make(source: Arc<dyn PlacementSource>, config: PoolConfig, budgeted: bool) -> Self {
        let config = Arc::new(config);
        Self {
            shared: Arc::new(Shared {
                placements: Placements::new(source, config.clone(), budgeted),
                config,
                closing: Closing::default(),
                waiting: Waiting::default(),
            }),
        }
    }

    /// Looks at the shares of servers' connections now: called when other processes come and go.
    pub fn divide_anew(&self) {
        self.shared.placements.news.notify_one();
    }

    /// Closes all connections and gives back this process's shares. What is in use may end before, for as long as a lease of a
    /// share lasts.
    ///
    /// # Cancel safety
    ///
    /// What was begun goes on when dropped.
    pub async fn close(&self) {
        let mut done = pin!(self.shared.closing.done.notified());
        // From here on a ring is heard.
        done.as_mut().enable();
        if self.shared.closing.is_done.load(Ordering::Acquire) {
            return;
        }
        self.shared.closing.asked.store(true, Ordering::Release);
        let servers = self.shared.placements.servers();
        for (_, server) in &servers {
            server.set_share(0);
        }
        self.divide_anew();
        let limit = self.shared.config.share_lease;
        let _ = tokio::time::timeout(limit, async {
            match self.shared.placements.is_budgeted() {
                true => done.await,
                false => shares::until_closed(&servers).await,
            }
        })
        .await;
    }

    /// Forgets where a tenant lives: called when the catalog says that something changed. A call that waits for the tenant's move asks at once
    /// whether it has ended.
    ///
    /// # Cancel safety
    ///
    /// When dropped, it may be remembered still.
    pub async fn invalidate(&self, tenant: TenantId) {
        self.shared.placements.invalidate(tenant).await;
        self.shared.waiting.news(tenant);
    }

    /// Forgets where all tenants live: called when changes of the catalog may have been missed.
    pub fn invalidate_all(&self) {
        self.shared.placements.invalidate_all();
    }

    /// How this process stands with each server.
    pub fn server_status(&self) -> Vec<(ServerId, ServerStatus)> {
        self.shared
            .placements
            .servers()
            .into_iter()
            .map(|(id, server)| (id, server.status()))
            .collect()
    }

    /// How each pool stands.
    pub fn status(&self) -> Vec<(TenantDatabaseId, PoolStatus)> {
        self.shared
            .placements
            .pools()
            .into_iter()
            .map(|(id, pool)| (id, pool.status()))
            .collect()
    }

    /// Closes connections that are idle for too long or too old; to be called every few seconds.
    pub fn shrink(&self) {
        for (_, server) in self.shared.placements.servers() {
            server.shrink();
        }
        self.shared.placements.forget_unused();
    }

    /// A task that calls [`shrink`](Self::shrink) until the last handle is dropped.
    pub fn spawn_shrinking(&self) -> tokio::task::JoinHandle<()> {
        let shared = Arc::downgrade(&self.shared);
        let config = &self.shared.config;
        let shortest = config.idle_max.min(config.transaction_timeout);
        let every = (shortest / 4).clamp(Duration::from_millis(20), Duration::from_secs(15));
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(every).await;
                match shared.upgrade() {
                    Some(shared) => Self { shared }.shrink(),
                    None => return,
                }
            }
        })
    }

    /// The version of the application's tables in the caller's home, as it is remembered with the home; `None` where the
    /// source of placements does not know it.
    ///
    /// # Errors
    ///
    /// Why the tenant has no home to go to.
    ///
    /// # Cancel safety
    ///
    /// It only reads.
    pub async fn schema_version(&self, caller: &Caller) -> Result<Option<i64>, Error> {
        Ok(self.locate(caller).await?.schema_version)
    }

    /// What the plan of the caller's tenant gives, as it is remembered with the home.
    ///
    /// # Errors
    ///
    /// Why the tenant has no home to go to.
    ///
    /// # Cancel safety
    ///
    /// It only reads.
    pub async fn grant(&self, caller: &Caller) -> Result<Arc<Grant>, Error> {
        Ok(self.locate(caller).await?.grant.clone())
    }

    /// So many processes divide what plans give: each tenant's statements at a time are bounded by this process's part from now on.
    pub fn divide_among(&self, processes: usize) {
        self.shared.placements.divide_among(processes);
    }

    /// Shows where the caller's tenant lives, if that is known without asking: for log lines.
    pub fn with_placement<T>(&self, caller: &Caller, show: impl FnOnce(&Placement) -> T) -> Option<T> {
        self.remembered(caller).map(|located| show(&located.home.placement))
    }

    pub(crate) fn source(&self) -> &dyn PlacementSource {
        self.shared.placements.source()
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) fn of(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// How old what a replica shows may be where a call says nothing else.
    pub fn staleness_max(&self) -> Duration {
        self.shared.config.staleness_max
    }

    /// How the replicas of each server stand, where this process knows of any.
    pub fn replica_status(&self) -> Vec<ReplicaStatus> {
        self.shared.placements.replicas(self.staleness_max())
    }

    /// The bounds of the pools.
    pub(crate) fn config(&self) -> &Arc<PoolConfig> {
        &self.shared.config
    }
}
