//! What another process does to a tenant, seen by the values of this one.

use std::time::{Duration, Instant};

use tenantry::{
    Catalog, MasterKey, PoolConfig, ResolverConfig, Scope, TenantId, Tenantry,
    cache::{Cache, CacheConfig},
};
use tenantry_ops::{Authority, FleetConfig, IdentityConfig, Ops, ServerRequest, TenantRef, TenantRequest};
use tenantry_testing::{FaultProxy, TestDatabase, cluster, database};

/// A catalog with two tenants, the process that purges one, and one that serves them.
struct Fleet {
    ops: Ops,
    serves: Tenantry,
    purged: TenantId,
    stays: TenantId,
    /// Between the serving process and the catalog.
    proxy: FaultProxy,
    _database: TestDatabase,
}

fn system() -> Authority {
    Authority::system("a test")
}

impl Fleet {
    async fn new() -> Self {
        let (database, server) = (database().await, cluster().await);
        let key = MasterKey::generate();
        let catalog = Catalog::connect(&database.url(), &key).await.unwrap();
        let mut fleet = FleetConfig::default();
        fleet.wait = Duration::from_secs(50);
        let ops = Ops::with_fleet(catalog, IdentityConfig::new("i", "a"), fleet);
        let request = ServerRequest {
            name: "first".to_owned(),
            region: None,
            capacity: None,
            connections: None,
            admin_url: server.admin_url("postgres").into(),
        };
        ops.add_server(&system(), &request).await.unwrap();
        let proxy = FaultProxy::start(server.host(), server.port()).await;
        let far = database
            .url()
            .replace(&format!(":{}/", server.port()), &format!(":{}/", proxy.port()));
        let far = Catalog::connect(&far, &key).await.unwrap();
        let config = ResolverConfig::new("i", "a");
        let serves = Tenantry::on_catalog(far, config, PoolConfig::default())
            .unwrap()
            .with_cache(Cache::new(CacheConfig::default()).unwrap());
        let tenant = async |slug: &str| {
            let request = TenantRequest::new(slug.parse().unwrap(), slug.parse().unwrap());
            ops.create_tenant(&system(), &request, None).await.unwrap().id
        };
        let (purged, stays) = (tenant("purged").await, tenant("stays").await);
        Self {
            ops,
            serves,
            purged,
            stays,
            proxy,
            _database: database,
        }
    }

    async fn scope(&self, tenant: TenantId) -> Scope {
        self.serves.system_context(tenant, "test").await.unwrap()
    }

    /// Waits until so many values are left in the serving process.
    async fn until_entries(&self, expected: u64) {
        let begun = Instant::now();
        while self.serves.cache().status().entries != expected {
            let status = self.serves.cache().status();
            assert!(begun.elapsed() < Duration::from_secs(20), "{status:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Keeps a value, again where what was told of the tenant's making comes after it.
async fn keep(fleet: &Fleet, scope: &Scope) {
    let _ = scope.cache().set("canary", &1).await.unwrap();
    assert_eq!(scope.cache().get::<i32>("canary").await.as_deref(), Some(&1));
    assert!(fleet.serves.cache().status().entries > 0);
}

#[tokio::test]
async fn what_another_process_purges_is_forgotten_here() {
    let fleet = Fleet::new().await;
    let (purged, stays) = (fleet.scope(fleet.purged).await, fleet.scope(fleet.stays).await);
    // Everything that was told of both being made.
    fleet.serves.resolver().unwrap().catch_up().await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    keep(&fleet, &stays).await;
    keep(&fleet, &purged).await;
    let one = TenantRef::Id(fleet.purged);
    fleet.ops.delete_tenant(&system(), &one).await.unwrap();
    fleet.until_entries(1).await;
    // Whoever still has a scope keeps one more: it ends with the purge, and not after its 300 s.
    keep(&fleet, &purged).await;
    fleet.ops.purge_tenant(&system(), &one).await.unwrap();
    fleet.until_entries(1).await;
    assert_eq!(stays.cache().get::<i32>("canary").await.as_deref(), Some(&1));
}

#[tokio::test]
async fn what_was_purged_while_the_catalog_was_away_is_forgotten_when_it_is_back() {
    let fleet = Fleet::new().await;
    let purged = fleet.scope(fleet.purged).await;
    fleet.serves.resolver().unwrap().catch_up().await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    keep(&fleet, &purged).await;
    fleet.proxy.cut();
    let one = TenantRef::Id(fleet.purged);
    fleet.ops.delete_tenant(&system(), &one).await.unwrap();
    fleet.ops.purge_tenant(&system(), &one).await.unwrap();
    assert_eq!(fleet.serves.cache().status().entries, 1, "it has heard of nothing");
    fleet.proxy.heal();
    fleet.until_entries(0).await;
}
