//! A fleet in small: tenants in shared tables, in schemas and in databases of their own, made by the engine.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use parking_lot::Mutex;
use tenantry::{
    Entrance, Excess, Home, Incarnation, LocateError, PlacementSource, PlanLimits, PoolConfig, Replica, Scope, Served,
    SystemAudit, Tenantry,
};
use tenantry_core::{
    Epoch, InstallationId, Isolation, Placement, ServerId, TenantDatabaseId, TenantId, own_schema_name,
};
use tenantry_engine::{
    Roles,
    admin::ServerAdmin,
    bootstrap::{self, DatabaseRequest},
    fence, home,
    isolate::{Derived, derive},
    migrate::{Files, Patience, Target, TenantContext, apply},
};
use tenantry_sql::Identifier;
use tenantry_testing::{TestCluster, TestDatabase};
use tenantry_wire::{Address, Endpoint};
use uuid::Uuid;

/// The application's first migration, as if there were one customer.
pub(crate) const MIGRATION: &str = "
create type mood as enum ('fine', 'odd');
create table project (id int primary key, name text not null);
create table contact (
    id int primary key,
    name text not null,
    email text unique,
    mood mood not null default 'fine',
    tags text[] not null default '{}',
    project_id int references project,
    created_at timestamptz not null default now()
);
create index on contact (created_at);
";

/// A fleet in small.
pub(crate) struct World {
    pub(crate) tenantry: Tenantry,
    pub(crate) source: Arc<Source>,
    pub(crate) audit: Arc<Audit>,
    pub(crate) installation: InstallationId,
    /// Two in shared tables, two in schemas of their own, two in databases of their own.
    pub(crate) tenants: Vec<TenantId>,
    pub(crate) derived: Derived,
    pub(crate) databases: Vec<Database>,
    force_signed: bool,
}

/// A tenant database: the first holds shared tables and schemas.
pub(crate) struct Database {
    pub(crate) id: TenantDatabaseId,
    pub(crate) test: TestDatabase,
    pub(crate) admin: tokio_postgres::Client,
    pub(crate) target: Target,
    pub(crate) home: Home,
}

/// Says where tenants live.
#[derive(Default)]
pub(crate) struct Source {
    pub(crate) homes: Mutex<HashMap<TenantId, Home>>,
    /// What everybody's plan gives.
    pub(crate) limits: Mutex<PlanLimits>,
    /// What everybody has as much of as it gives.
    pub(crate) excess: Mutex<Vec<Excess>>,
    /// Where the server's standbys are.
    pub(crate) replicas: Mutex<Vec<Address>>,
}

#[async_trait]
impl PlacementSource for Source {
    async fn locate(&self, tenant: TenantId) -> Result<Home, LocateError> {
        self.homes.lock().get(&tenant).cloned().ok_or(LocateError::NotFound)
    }

    async fn locate_served(&self, tenant: TenantId) -> Result<Served, LocateError> {
        let served = Served::from(self.locate(tenant).await?);
        let (limits, excess) = (self.limits.lock().clone(), self.excess.lock().clone());
        let replicas = self
            .replicas
            .lock()
            .clone()
            .into_iter()
            .zip(1..)
            .map(|(address, n)| Replica {
                id: ServerId::from_uuid(Uuid::from_u128(n)),
                endpoint: Arc::new(Endpoint {
                    address,
                    ..Endpoint::clone(&served.home.endpoint)
                }),
            });
        Ok(Served {
            limits,
            excess,
            replicas: replicas.collect(),
            ..served
        })
    }

    async fn served_databases(&self) -> Result<Vec<TenantDatabaseId>, LocateError> {
        let homes = self.homes.lock();
        let databases = homes.values().map(|home| home.placement.database);
        Ok(databases.collect::<HashSet<_>>().into_iter().collect())
    }

    async fn entrance(&self, database: TenantDatabaseId) -> Result<Entrance, LocateError> {
        let homes = self.homes.lock();
        let home = homes.values().find(|home| home.placement.database == database);
        Ok(home.ok_or(LocateError::NotFound)?.clone().into())
    }
}

/// Keeps what the application did by itself.
#[derive(Default)]
pub(crate) struct Audit {
    pub(crate) reasons: Mutex<Vec<String>>,
}

#[async_trait]
impl SystemAudit for Audit {
    async fn system_context(&self, _tenant: TenantId, reason: &str) -> Result<(), tenantry::Error> {
        self.reasons.lock().push(reason.to_owned());
        Ok(())
    }
}

/// No migration here touches data.
struct NoData;

impl TenantContext for NoData {
    fn enter(&self, _tenant: TenantId, _backend_pid: i32) -> String {
        "select 1".to_owned()
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::on(tenantry_testing::cluster().await, PoolConfig::default()).await
    }

    pub(crate) async fn with(pool: PoolConfig) -> Self {
        Self::on(tenantry_testing::cluster().await, pool).await
    }

    /// In the signed tier.
    pub(crate) async fn signed(pool: PoolConfig) -> Self {
        Self::make(tenantry_testing::cluster().await, pool, true).await
    }

    pub(crate) async fn on(cluster: &TestCluster, pool: PoolConfig) -> Self {
        Self::make(cluster, pool, false).await
    }

    async fn make(cluster: &TestCluster, pool: PoolConfig, force_signed: bool) -> Self {
        let installation: InstallationId = tenantry_testing::installation_id().parse().unwrap();
        let first = tenantry_testing::database_on(cluster).await;
        let admin = ServerAdmin::new(first.config()).unwrap();
        bootstrap::server(&admin, &installation, None).await.unwrap();
        let derived = derived(cluster, &installation, MIGRATION).await;

        let mut world = Self {
            source: Arc::default(),
            audit: Arc::default(),
            tenantry: Tenantry::from_source(
                Arc::new(Source::default()),
                Arc::new(Audit::default()),
                PoolConfig::default(),
            ),
            installation,
            tenants: (1..=6).map(|_| TenantId::from_uuid(Uuid::now_v7())).collect(),
            derived,
            databases: Vec::new(),
            force_signed,
        };
        world.tenantry = Tenantry::from_source(world.source.clone(), world.audit.clone(), pool);
        world.add_database(first).await;
        world.migrate(0, "app").await;
        for n in 0..6 {
            world.place(n).await;
        }
        world.fill().await;
        world
    }

    /// The application roles' sessions on the server, and how many of them have a transaction open.
    pub(crate) async fn sessions(&self) -> (usize, usize) {
        let roles: Vec<String> = self
            .databases
            .iter()
            .map(|database| database.target.application.to_string().replace('"', ""))
            .collect();
        let row = self.databases[0]
            .admin
            .query_one(
                "select count(*), count(*) filter (where xact_start is not null) from pg_stat_activity where usename = any ($1)",
                &[&roles],
            )
            .await
            .unwrap();
        (row.get::<_, i64>(0) as usize, row.get::<_, i64>(1) as usize)
    }

    /// A connection of the application role to a tenant database, for any SQL.
    pub(crate) async fn as_application(&self, database: usize) -> tokio_postgres::Client {
        use secrecy::ExposeSecret as _;
        let place = &self.databases[database];
        let mut config = place.test.config();
        config.user(&place.home.endpoint.user);
        config.password(place.home.endpoint.password.expose_secret());
        let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    /// Waits until dropped work's transaction has ended, which it does without anybody's help.
    pub(crate) async fn nobody_is_in_a_transaction(&self, after: &str) {
        let since = Instant::now();
        while self.sessions().await.1 > 0 {
            assert!(
                since.elapsed() < Duration::from_secs(20),
                "{after} left a transaction open"
            );
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn add_database(&mut self, test: TestDatabase) {
        let admin = ServerAdmin::new(test.config()).unwrap();
        let id = TenantDatabaseId::from_uuid(Uuid::now_v7());
        let request = DatabaseRequest {
            installation: &self.installation,
            database: id,
            name: test.name(),
            credentials: None,
            force_signed: self.force_signed,
        };
        let made = bootstrap::database(&admin, &request).await.unwrap();
        // As in service: databases of one tenant's own always, the shared one by choice.
        if !self.databases.is_empty() || tenantry_testing::hardened() {
            let hardened = bootstrap::harden(&admin, &self.installation, test.name(), &[])
                .await
                .unwrap();
            assert!(hardened.is_whole(), "{hardened:?}");
        }
        let roles = Roles::of(&self.installation);
        let mut endpoint = Endpoint::from_url(&test.url()).unwrap();
        endpoint.user = made.app_role;
        endpoint.password = made.app_password;
        let placement = Placement {
            tenant: self.tenants[0],
            isolation: Isolation::Shared,
            server: ServerId::from_uuid(Uuid::nil()),
            database: id,
            database_name: test.name().to_owned(),
            schema: "app".to_owned(),
            epoch: Epoch::FIRST,
        };
        let home = Home {
            placement,
            endpoint: Arc::new(endpoint),
            key: made.key,
            tier: made.tier,
            incarnation: Some(Incarnation {
                system_identifier: made.system_identifier,
                database_oid: made.database_oid,
            }),
            pooled: false,
        };
        let target = Target {
            schema: Identifier::new("app").unwrap(),
            owner: roles.owner,
            application: Roles::app(&self.installation, id),
            mover: roles.mover,
        };
        let client = admin.connect(test.name()).await.unwrap();
        self.databases.push(Database {
            id,
            test,
            admin: client,
            target,
            home,
        });
    }

    async fn place(&mut self, n: usize) {
        let tenant = self.tenants[n];
        let (database, isolation, schema) = match n {
            0 | 1 => (0, Isolation::Shared, "app".to_owned()),
            2 | 3 => (0, Isolation::Schema, own_schema_name(tenant)),
            _ => {
                let own = tenantry_testing::database_on(self.databases[0].test.cluster()).await;
                self.add_database(own).await;
                (self.databases.len() - 1, Isolation::Database, "app".to_owned())
            }
        };
        let place = &self.databases[database];
        if isolation == Isolation::Schema {
            home::create_schema(&place.admin, &self.installation, place.id, tenant)
                .await
                .unwrap();
        }
        if isolation != Isolation::Shared {
            self.migrate(database, &schema).await;
        }
        let place = &self.databases[database];
        fence::register(&place.admin, tenant, Epoch::FIRST, true).await.unwrap();
        let mut home = place.home.clone();
        home.placement = Placement {
            tenant,
            isolation,
            schema,
            ..home.placement
        };
        self.source.homes.lock().insert(tenant, home);
    }

    /// Applies what is pending in a schema.
    pub(crate) async fn migrate(&self, database: usize, schema: &str) {
        let place = &self.databases[database];
        let target = Target {
            schema: Identifier::new(schema).unwrap(),
            ..place.target.clone()
        };
        apply(&place.admin, &target, &self.derived, &[], &NoData, &Patience::default())
            .await
            .unwrap();
    }

    /// Replaces the migrations by these, and applies them everywhere.
    pub(crate) async fn migrate_all(&mut self, files: &[(&str, &str)]) {
        let cluster = self.databases[0].test.cluster().clone();
        self.derived = derived_files(&cluster, &self.installation, files).await;
        self.migrate(0, "app").await;
        for n in [2, 3] {
            self.migrate(0, &own_schema_name(self.tenants[n])).await;
        }
        for database in [1, 2] {
            self.migrate(database, "app").await;
        }
    }

    /// The same ids in each tenant; the names say whose they are.
    async fn fill(&self) {
        for n in 0..6 {
            let scope = self.scope(n).await;
            scope
                .execute(
                    "insert into project (id, name) values (1, $1)",
                    &[&format!("project of {n}")],
                )
                .await
                .unwrap();
            let sql = "insert into contact (id, name, email, project_id) values (1, $1, 'a@b.c', 1)";
            scope.execute(sql, &[&format!("contact of {n}")]).await.unwrap();
        }
    }

    /// Access as the application itself.
    pub(crate) async fn scope(&self, n: usize) -> Scope {
        self.tenantry.system_context(self.tenants[n], "test").await.unwrap()
    }

    /// The names of the contacts that a tenant sees.
    pub(crate) async fn names(&self, n: usize) -> Vec<String> {
        let scope = self.scope(n).await;
        let rows = scope
            .query_as::<(String,)>("select name from contact order by id", &[])
            .await
            .unwrap();
        rows.into_iter().map(|(name,)| name).collect()
    }

    /// Every tenant's rows are as they were filled.
    pub(crate) async fn assert_untouched(&self) {
        for n in 0..6 {
            assert_eq!(self.names(n).await, [format!("contact of {n}")]);
        }
    }
}

pub(crate) async fn derived(cluster: &TestCluster, installation: &InstallationId, sql: &str) -> Derived {
    derived_files(cluster, installation, &[("0001_first.sql", sql)]).await
}

async fn derived_files(cluster: &TestCluster, installation: &InstallationId, files: &[(&str, &str)]) -> Derived {
    let scratch = tenantry_testing::database_on(cluster).await;
    let files = Files::from_embedded(files.iter().copied()).unwrap();
    let owner = Roles::of(installation).owner;
    derive(&scratch.connect().await, owner.as_str(), &files).await.unwrap()
}
