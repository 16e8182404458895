//! Where tenants live, remembered.

use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use moka::future::Cache;
use parking_lot::Mutex;
use tenantry_core::{Epoch, Excess, PlanLimits, Role, ServerId, TenantDatabaseId, TenantId, Tier, seal};
use tenantry_wire::Binding;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::{
    Caller, Destination, Error, Home, LocateError, PlacementSource, PoolConfig, Replica, ReplicaStatus, Served,
    database::{DatabasePool, Way},
    member::Lease,
    replica::{Branch, Branches},
    server::ServerPool,
    watch::{Listed, Watch},
    written::Writing,
};

/// A home with the pool that leads there, and what each call to it needs.
pub(crate) struct Located {
    pub(crate) home: Home,
    pub(crate) pool: Arc<DatabasePool>,
    /// The version of the application's tables, where the source knows it.
    pub(crate) schema_version: Option<i64>,
    /// What the tenant's plan gives, and what it has used up.
    pub(crate) grant: Arc<Grant>,
    /// How long one of its statements may run.
    pub(crate) statement_timeout: Duration,
    /// The same database on the replicas of its server.
    pub(crate) replicas: Branches,
    /// How far those are; `None` where there are none.
    pub(crate) watch: Option<Arc<Watch>>,
    schema: Arc<str>,
    search_path: String,
}

/// A tenant database with the pool that leads there, for calls that are nobody's.
pub(crate) struct Entered {
    pub(crate) pool: Arc<DatabasePool>,
    /// Signs the tokens of this database.
    pub(crate) key: seal::Key,
    /// None: names are resolved in no tenant's.
    schema: Arc<str>,
}

impl Entered {
    /// Nobody's: a connection is lent by it, and none is ever bound to it.
    pub(crate) fn binding(&self) -> Binding<'_> {
        Binding {
            tenant: TenantId::from_uuid(Uuid::nil()),
            role: Role::Viewer,
            epoch: Epoch::FIRST,
            account: None,
            account_text: "",
            schema: &self.schema,
            search_path: "",
            key: &self.key,
            tier: Tier::Sealed,
            read_only: true,
        }
    }
}

/// What a tenant's plan gives, and what the tenant has used up of it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Grant {
    /// At most.
    pub limits: PlanLimits,
    /// More than that.
    pub excess: Vec<Excess>,
}

impl Located {
    pub(crate) fn binding<'a>(&'a self, caller: &'a Caller) -> Binding<'a> {
        Binding {
            tenant: caller.tenant,
            role: caller.role,
            epoch: self.home.placement.epoch,
            account: caller.account,
            account_text: &caller.account_text,
            schema: &self.schema,
            search_path: &self.search_path,
            key: &self.home.key,
            tier: self.home.tier,
            read_only: false,
        }
    }

    /// What is done on the connection may be a write of the caller's: worth noting where a replica could be read from.
    pub(crate) fn note_writes(&self, caller: &Caller, lease: &mut Lease) {
        if self.watch.is_some() {
            lease.writes(&caller.written);
        }
    }

    /// The same for what has a connection of its own.
    pub(crate) fn writing(&self, caller: &Caller) -> Writing {
        Writing::new(self.watch.is_some().then(|| caller.written.clone()))
    }
}

/// Remembers placements, and holds one pool per tenant database.
pub(crate) struct Placements {
    source: Arc<dyn PlacementSource>,
    cache: Cache<TenantId, Arc<Located>>,
    /// For calls that are nobody's.
    entered: Cache<TenantDatabaseId, Arc<Entered>>,
    pools: Mutex<HashMap<TenantDatabaseId, Arc<DatabasePool>>>,
    servers: Mutex<HashMap<ServerId, Arc<ServerPool>>>,
    /// By database and replica.
    branches: Mutex<HashMap<(TenantDatabaseId, ServerId), Arc<DatabasePool>>>,
    /// By server.
    watches: Mutex<HashMap<ServerId, Arc<Watch>>>,
    /// Rings when a server is new, or has shrunk to its share.
    pub(crate) news: Arc<Notify>,
    /// Somebody divides a budget: a server has no share until that one says so.
    budgeted: bool,
    config: Arc<PoolConfig>,
    /// How many processes divide what plans give.
    processes: AtomicUsize,
    /// Grows when a placement is forgotten: what callers remember of their own is then void.
    generation: AtomicU64,
}

/// What a caller remembers of its tenant's home. It keeps nothing alive: a pool that was given up ends, however long callers
/// are remembered.
pub(crate) struct Memo {
    generation: u64,
    until: Instant,
    located: Weak<Located>,
}

impl Placements {
    pub(crate) fn new(source: Arc<dyn PlacementSource>, config: Arc<PoolConfig>, budgeted: bool) -> Self {
        let cache = Cache::builder()
            .max_capacity(config.placements_max)
            .time_to_live(config.placement_ttl)
            .build();
        let entered = Cache::builder()
            .max_capacity(config.placements_max)
            .time_to_live(config.placement_ttl)
            .build();
        Self {
            source,
            cache,
            entered,
            pools: Mutex::default(),
            servers: Mutex::default(),
            branches: Mutex::default(),
            watches: Mutex::default(),
            news: Arc::default(),
            budgeted,
            config,
            processes: AtomicUsize::new(1),
            generation: AtomicU64::new(0),
        }
    }

    pub(crate) fn source(&self) -> &dyn PlacementSource {
        &*self.source
    }

    /// Where the caller's tenant lives, as the caller remembers it.
    pub(crate) fn remembered(&self, caller: &Caller, now: Instant) -> Option<Arc<Located>> {
        let memo = caller.memo.lock();
        let memo = memo.as_ref()?;
        let holds = memo.generation == self.generation.load(Ordering::Acquire) && now < memo.until;
        holds.then(|| memo.located.upgrade()).flatten()
    }

    /// Where the caller's tenant lives.
    pub(crate) async fn locate(&self, caller: &Caller) -> Result<Arc<Located>, Error> {
        // Read first: a placement that is forgotten meanwhile voids the memo.
        let generation = self.generation.load(Ordering::Acquire);
        let located = self.look_up(caller.tenant).await?;
        let until = Instant::now() + self.config.placement_ttl;
        *caller.memo.lock() = Some(Memo {
            generation,
            until,
            located: Arc::downgrade(&located),
        });
        Ok(located)
    }

    /// Asked of the source once, however many callers want to know.
    async fn look_up(&self, tenant: TenantId) -> Result<Arc<Located>, Error> {
        if let Some(located) = self.cache.get(&tenant).await {
            return Ok(located);
        }
        let looked_up = self.cache.try_get_with(tenant, async {
            let served = self.source.locate_served(tenant).await?;
            if served.home.placement.tenant != tenant {
                return Err(LocateError::Unavailable(
                    "the source answered for another tenant".to_owned(),
                ));
            }
            Ok(Arc::new(self.located(served)))
        });
        looked_up
            .await
            .map_err(|error: Arc<LocateError>| Error::Locate(LocateError::clone(&error)))
    }

    /// The way into a tenant database, whoever lives there. Asked of the source once, however many callers want to know.
    pub(crate) async fn enter(&self, database: TenantDatabaseId) -> Result<Arc<Entered>, Error> {
        if let Some(entered) = self.entered.get(&database).await {
            return Ok(entered);
        }
        let looked_up = self.entered.try_get_with(database, async {
            let entrance = self.source.entrance(database).await?;
            Ok::<_, LocateError>(Arc::new(self.leading_to(Destination { database, entrance })))
        });
        looked_up
            .await
            .map_err(|error: Arc<LocateError>| Error::Locate(LocateError::clone(&error)))
    }

    /// The way into a tenant database that the source has named.
    pub(crate) fn leading_to(&self, to: Destination) -> Entered {
        let Destination { database, entrance } = to;
        Entered {
            pool: self.pool_in(&self.pools, database, Way::from(&entrance), entrance.server),
            key: entrance.key,
            schema: Arc::from(""),
        }
    }

    fn located(&self, served: Served) -> Located {
        let Served {
            home,
            schema_version,
            limits,
            excess,
            replicas,
        } = served;
        let (watch, replicas) = self.replicas_of(&home, &replicas);
        let pool = self.pool(&home);
        let concurrent = limits.concurrent.map(|limit| limit.get() as usize);
        for pool in replicas.all.iter().map(|branch| &branch.pool).chain([&pool]) {
            pool.server().bound(pool.slot(), home.placement.tenant, concurrent);
        }
        let by_plan = limits.statement_ms.map(|ms| Duration::from_millis(ms.get().into()));
        let schema: Arc<str> = home.placement.schema.as_str().into();
        // Extensions last; temporary tables after everything, or one could stand in for a table.
        let search_path = format!("\"{}\", tenantry_ext, pg_temp", schema.replace('"', "\"\""));
        Located {
            pool,
            schema_version,
            grant: Arc::new(Grant { limits, excess }),
            // A plan gives less than the configuration, never more.
            statement_timeout: by_plan.map_or(self.config.statement_timeout, |limit| {
                limit.min(self.config.statement_timeout)
            }),
            replicas,
            watch,
            schema,
            search_path,
            home,
        }
    }

    /// The database on each replica, and what is known of how far they are.
    fn replicas_of(&self, home: &Home, replicas: &[Replica]) -> (Option<Arc<Watch>>, Branches) {
        let server = home.placement.server;
        let ids: Vec<ServerId> = replicas.iter().map(|replica| replica.id).collect();
        let watch = {
            let mut watches = self.watches.lock();
            match ids.is_empty() {
                true => watches.remove(&server),
                false => Some(watches.entry(server).or_insert_with(Watch::new).clone()),
            }
        };
        let Some(watch) = watch else {
            return (None, Branches::default());
        };
        let Listed { list, standbys, gone } = watch.list(&ids);
        self.give_up(&gone);
        if ids.is_empty() {
            return (None, Branches::default());
        }
        let branches = replicas.iter().filter_map(|replica| {
            let way = Way {
                endpoint: replica.endpoint.clone(),
                incarnation: home.incarnation,
                pooled: false,
                standby: true,
            };
            let key = (home.placement.database, replica.id);
            Some(Branch {
                pool: self.pool_in(&self.branches, key, way, replica.id),
                standby: standbys.iter().find(|standby| standby.id == replica.id)?.clone(),
            })
        });
        (Some(watch), Branches::new(list, branches.collect()))
    }

    fn pool(&self, home: &Home) -> Arc<DatabasePool> {
        self.pool_in(&self.pools, home.placement.database, home.into(), home.placement.server)
    }

    fn pool_in<K: Eq + Hash>(
        &self,
        pools: &Mutex<HashMap<K, Arc<DatabasePool>>>,
        key: K,
        way: Way,
        server: ServerId,
    ) -> Arc<DatabasePool> {
        let server = self.server(server);
        let mut pools = pools.lock();
        if let Some(pool) = pools.get(&key)
            && pool.leads_to(&way)
            && Arc::ptr_eq(pool.server(), &server)
        {
            return pool.clone();
        }
        // Another address, password or incarnation.
        let pool = DatabasePool::new(way, self.config.clone(), server);
        let old = pools.insert(key, pool.clone());
        drop(pools);
        if let Some(old) = old {
            old.retire();
        }
        pool
    }

    fn server(&self, id: ServerId) -> Arc<ServerPool> {
        let mut servers = self.servers.lock();
        let server = servers.entry(id).or_insert_with(|| {
            let share = match self.budgeted {
                true => 0,
                false => self.config.server_connections_max,
            };
            self.news.notify_one();
            let processes = self.processes.load(Ordering::Relaxed);
            ServerPool::new(self.config.clone(), share, processes, self.news.clone())
        });
        server.clone()
    }

    /// So many processes divide what plans give, from now on.
    pub(crate) fn divide_among(&self, processes: usize) {
        let processes = processes.max(1);
        if self.processes.swap(processes, Ordering::Relaxed) != processes {
            for (_, server) in self.servers() {
                server.divide_among(processes);
            }
        }
    }

    pub(crate) fn is_budgeted(&self) -> bool {
        self.budgeted
    }

    pub(crate) fn servers(&self) -> Vec<(ServerId, Arc<ServerPool>)> {
        self.servers
            .lock()
            .iter()
            .map(|(id, server)| (*id, server.clone()))
            .collect()
    }

    /// Forgets databases that nobody remembers and that have no connection.
    pub(crate) fn forget_unused(&self) {
        let is_used = |pool: &Arc<DatabasePool>| {
            let status = pool.status();
            Arc::strong_count(pool) > 1 || status.open > 0 || status.waiting > 0
        };
        self.pools.lock().retain(|_, pool| is_used(pool));
        self.forget_replicas(is_used);
    }

    /// A replica that nobody reads from needs no share of its connections.
    fn forget_replicas(&self, is_used: impl Fn(&Arc<DatabasePool>) -> bool) {
        let mut branches = self.branches.lock();
        let before: HashSet<ServerId> = branches.keys().map(|(_, replica)| *replica).collect();
        branches.retain(|_, pool| is_used(pool));
        let after: HashSet<ServerId> = branches.keys().map(|(_, replica)| *replica).collect();
        drop(branches);
        let mut servers = self.servers.lock();
        for gone in before.difference(&after) {
            servers.remove(gone);
        }
    }

    /// These are listed no more: what is idle there is closed, and what is in use when it comes back.
    fn give_up(&self, replicas: &[ServerId]) {
        if replicas.is_empty() {
            return;
        }
        let mut branches = self.branches.lock();
        let gone: Vec<_> = branches
            .extract_if(|(_, replica), _| replicas.contains(replica))
            .collect();
        drop(branches);
        for (_, pool) in gone {
            pool.retire();
        }
        let mut servers = self.servers.lock();
        for replica in replicas {
            servers.remove(replica);
        }
    }

    pub(crate) fn replicas(&self, staleness_max: Duration) -> Vec<ReplicaStatus> {
        let watches: Vec<_> = self.watches.lock().values().cloned().collect();
        watches.iter().flat_map(|watch| watch.status(staleness_max)).collect()
    }

    pub(crate) async fn invalidate(&self, tenant: TenantId) {
        self.cache.invalidate(&tenant).await;
        self.generation.fetch_add(1, Ordering::Release);
    }

    pub(crate) async fn forget_entrance(&self, database: TenantDatabaseId) {
        self.entered.invalidate(&database).await;
    }

    pub(crate) fn invalidate_all(&self) {
        self.cache.invalidate_all();
        self.entered.invalidate_all();
        self.generation.fetch_add(1, Ordering::Release);
    }

    pub(crate) fn pools(&self) -> Vec<(TenantDatabaseId, Arc<DatabasePool>)> {
        self.pools.lock().iter().map(|(id, pool)| (*id, pool.clone())).collect()
    }
}
