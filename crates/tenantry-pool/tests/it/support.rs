//! A tenant database with two tenants, and a source that says where they live.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use tenantry_core::{
    AccountId, Actor, Context, Epoch, Isolation, Placement, Role, ServerId, TenantDatabaseId, TenantId, Tier, seal::Key,
};
use tenantry_pool::{Caller, Destination, Home, LocateError, PlacementSource, PoolConfig, Pools};
use tenantry_testing::TestDatabase;
use tenantry_wire::{Address, Endpoint};
use uuid::Uuid;

/// A tenant database with two tenants in shared tables, each with contact 1.
pub(crate) struct Fixture {
    pub(crate) database: TestDatabase,
    pub(crate) source: Arc<Source>,
    pub(crate) tenants: [TenantId; 2],
}

/// Says where tenants live, and counts how often it was asked.
pub(crate) struct Source {
    pub(crate) home: parking_lot::Mutex<Home>,
    /// Where everybody is on the way to.
    pub(crate) destination: parking_lot::Mutex<Option<Home>>,
    pub(crate) asked: AtomicUsize,
}

#[async_trait]
impl PlacementSource for Source {
    async fn locate(&self, tenant: TenantId) -> Result<Home, LocateError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let mut home = self.home.lock().clone();
        home.placement.tenant = tenant;
        Ok(home)
    }

    async fn destination(&self, _tenant: TenantId) -> Result<Option<Destination>, LocateError> {
        let home = self.destination.lock().clone();
        Ok(home.map(|home| Destination {
            database: home.placement.database,
            entrance: home.into(),
        }))
    }
}

pub(crate) fn id(n: u128) -> TenantId {
    TenantId::from_uuid(Uuid::from_u128(n))
}

/// Bounds that make a test short.
pub(crate) fn small(connections_max: usize) -> PoolConfig {
    PoolConfig {
        connections_max,
        wait_timeout: Duration::from_secs(20),
        statement_timeout: Duration::from_secs(20),
        ..PoolConfig::default()
    }
}

impl Fixture {
    pub(crate) async fn new() -> Self {
        let database = tenantry_testing::database().await;
        let admin = database.connect().await;
        let key = Key::new(3, [7; 32]);
        let (inner, outer) = key.blocks();
        admin
            .batch_execute(include_str!("../../../tenantry-wire/tests/it/seal.sql"))
            .await
            .unwrap();
        let insert = "insert into tenantry_private.mac_key values (3, $1, $2)";
        admin
            .execute(insert, &[&inner.as_slice(), &outer.as_slice()])
            .await
            .unwrap();
        let tenants = [id(1), id(2)];
        for (tenant, name) in tenants.iter().zip(["Ada", "Bob"]) {
            admin
                .execute("insert into tenantry_private.fence values ($1)", &[tenant.as_uuid()])
                .await
                .unwrap();
            admin
                .execute("insert into app.contact values ($1, 1, $2)", &[tenant.as_uuid(), &name])
                .await
                .unwrap();
        }
        let role = database.name();
        let sql = format!(
            "create role {role} login password 'secret'; grant usage on schema app, tenantry to {role};
             grant select, insert, update, delete on app.contact to {role}"
        );
        admin.batch_execute(&sql).await.unwrap();
        let mut endpoint = Endpoint::from_url(&database.url()).unwrap();
        endpoint.user = role.to_owned();
        endpoint.password = "secret".to_owned().into();
        let placement = Placement {
            tenant: tenants[0],
            isolation: Isolation::Shared,
            server: ServerId::from_uuid(Uuid::from_u128(1)),
            database: TenantDatabaseId::from_uuid(Uuid::from_u128(2)),
            database_name: database.name().to_owned(),
            schema: "app".to_owned(),
            epoch: Epoch::FIRST,
        };
        let home = Home {
            placement,
            endpoint: Arc::new(endpoint),
            key,
            tier: Tier::Sealed,
            incarnation: None,
            pooled: false,
        };
        let source = Arc::new(Source {
            home: parking_lot::Mutex::new(home),
            destination: parking_lot::Mutex::new(None),
            asked: AtomicUsize::new(0),
        });
        Self {
            database,
            source,
            tenants,
        }
    }

    pub(crate) fn pools(&self, config: PoolConfig) -> Pools {
        Pools::new(self.source.clone(), config)
    }

    /// Leads the source's answers through another port, a proxy's.
    pub(crate) fn through(&self, port: u16) {
        let mut home = self.source.home.lock();
        let mut endpoint = Endpoint::clone(&home.endpoint);
        endpoint.address = Address::Tcp {
            host: "127.0.0.1".to_owned(),
            port,
        };
        home.endpoint = Arc::new(endpoint);
    }

    pub(crate) fn caller(&self, tenant: usize) -> Caller {
        self.caller_as(
            tenant,
            Actor::System {
                reason: "test".to_owned(),
            },
        )
    }

    pub(crate) fn caller_with_account(&self, tenant: usize) -> Caller {
        self.caller_as(tenant, Actor::Account(AccountId::from_uuid(Uuid::from_u128(77))))
    }

    fn caller_as(&self, tenant: usize, actor: Actor) -> Caller {
        Caller::new(&Context {
            tenant: self.tenants[tenant],
            actor,
            role: Role::Member,
        })
    }

    /// The names that a tenant sees.
    pub(crate) async fn names(&self, pools: &Pools, tenant: usize) -> Vec<String> {
        let outcome = pools
            .query(&self.caller(tenant), "select name from contact order by id", &[])
            .await
            .unwrap();
        outcome.rows.iter().map(|row| row.get(0).unwrap()).collect()
    }

    /// The sessions of the application's role, as `pid state in_transaction`.
    pub(crate) async fn sessions(&self) -> Vec<(i32, String, bool)> {
        let admin = self.database.connect().await;
        let sql = "select pid, coalesce(state, ''), xact_start is not null from pg_stat_activity where usename = $1 order by pid";
        let rows = admin.query(sql, &[&self.database.name()]).await.unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
    }

    /// Waits until the server shows what is expected of the application's sessions.
    pub(crate) async fn until(&self, what: &str, mut holds: impl FnMut(&[(i32, String, bool)]) -> bool) {
        for _ in 0..400 {
            if holds(&self.sessions().await) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{what}: {:?}", self.sessions().await);
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        let (config, role) = (self.database.config(), self.database.name().to_owned());
        let _ = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
                tokio::spawn(connection);
                let sql = format!(
                    "select pg_terminate_backend(pid, 5000) from pg_stat_activity where usename = '{role}';
                     drop owned by {role} cascade; drop role {role}"
                );
                client.batch_execute(&sql).await.unwrap();
            });
        })
        .join();
    }
}
