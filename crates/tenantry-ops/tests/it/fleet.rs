//! A catalog and a server for one test, and how a tenant's home looks from inside.

use std::{sync::Arc, time::Duration};

use secrecy::ExposeSecret as _;
use tenantry_catalog::{Catalog, MasterKey, placement};
use tenantry_core::{
    Isolation, Role, TenantId,
    seal::{Signed, Token},
};
use tenantry_engine::migrate::Files;
use tenantry_ops::{Authority, FleetConfig, IdentityConfig, Ops, ServerRequest, Tenant, TenantError, TenantRequest};
use tenantry_testing::{TestCluster, TestDatabase, cluster, database};
use tokio_postgres::NoTls;

pub(crate) const KEY: [u8; 32] = [7; 32];

pub(crate) struct Fleet {
    pub(crate) catalog: TestDatabase,
    pub(crate) ops: Ops,
}

pub(crate) fn files() -> Files {
    Files::from_embedded([
        (
            "0001_contacts.sql",
            "create table contacts (id uuid primary key default gen_random_uuid(), email text unique, name text not null);
             create table notes (id bigint generated always as identity primary key,
                                 contact uuid not null references contacts (id), text text not null);",
        ),
        ("0002_welcome.sql", "-- tenantry: seed\ninsert into contacts (email, name) values ('help@example.com', 'Help');"),
    ])
    .expect("the files are fine")
}

pub(crate) fn config() -> FleetConfig {
    let mut config = FleetConfig::default();
    config.migrations = Some(Arc::new(files()));
    config.lease = Duration::from_secs(2);
    config.wait = Duration::from_secs(20);
    // As many as a process runs operations: those that wait for each other have a test of their own.
    config.moves_per_source = 4;
    config
}

pub(crate) async fn ops_on(url: &str, config: FleetConfig) -> Ops {
    let catalog = Catalog::connect(url, &MasterKey::from_bytes(KEY))
        .await
        .expect("the catalog opens");
    Ops::with_fleet(catalog, IdentityConfig::new("https://issuer.test", "tests"), config)
}

pub(crate) fn operator() -> Authority {
    Authority::system("test")
}

pub(crate) fn request(slug: &str, isolation: Isolation) -> TenantRequest {
    let name = format!("The {slug} company").parse().expect("a name");
    let mut request = TenantRequest::new(slug.parse().expect("a slug"), name);
    request.isolation = Some(isolation);
    request
}

impl Fleet {
    /// A catalog and the shared server, registered as `one`.
    pub(crate) async fn start() -> Self {
        Self::start_with(config()).await
    }

    pub(crate) async fn start_with(config: FleetConfig) -> Self {
        let fleet = Self::empty(config).await;
        fleet.add("one", cluster().await).await;
        fleet
    }

    /// A catalog without any server.
    pub(crate) async fn empty(config: FleetConfig) -> Self {
        let catalog = database().await;
        let ops = ops_on(&catalog.url(), config).await;
        Self { catalog, ops }
    }

    pub(crate) async fn add(&self, name: &str, cluster: &TestCluster) {
        let request = ServerRequest {
            name: name.to_owned(),
            region: Some(format!("region-{name}")),
            capacity: None,
            connections: None,
            admin_url: cluster.admin_url("postgres").into(),
        };
        self.ops
            .add_server(&operator(), &request)
            .await
            .expect("the server is fit");
    }

    pub(crate) async fn create(&self, slug: &str, isolation: Isolation) -> Result<Tenant, TenantError> {
        self.ops
            .create_tenant(&operator(), &request(slug, isolation), None)
            .await
    }

    /// A connection of the application's role, bound to the tenant.
    pub(crate) async fn enter(&self, tenant: TenantId) -> Result<tokio_postgres::Client, tokio_postgres::Error> {
        let client = self.ops.catalog().client().await.expect("the catalog answers");
        let home = placement::locate(self.ops.catalog(), &client, tenant)
            .await
            .expect("the secrets open")
            .expect("it lives");
        let mut config: tokio_postgres::Config = home.admin_url.expose_secret().parse().expect("an address");
        config
            .user(&home.database.app_role)
            .password(home.secrets.app_password.expose_secret())
            .dbname(&home.database.name);
        let (client, connection) = config.connect(NoTls).await?;
        tokio::spawn(connection);
        let pid: i32 = client.query_one("select pg_backend_pid()", &[]).await?.get(0);
        let since = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("a clock");
        let token = Token {
            tenant,
            counter: 1,
            fresh: true,
            raw: false,
            role: Role::Owner,
            now_us: since.as_micros() as i64,
            backend_pid: pid,
            account: None,
            epoch: home.placement.epoch,
        };
        let Signed { message, mac } = home.secrets.keys[0].sign(&token);
        let seal = home.secrets.keys[0].sign(&token).seal();
        client
            .execute("select tenantry.enter($1, $2)", &[&message.as_slice(), &mac.as_slice()])
            .await?;
        client
            .batch_execute(&format!(
                "set tenantry.expect = '{seal}'; set search_path = {}, tenantry_ext",
                home.placement.schema
            ))
            .await?;
        Ok(client)
    }

    /// The administrator's connection to the shared tenant database.
    pub(crate) async fn shared_admin(&self) -> tokio_postgres::Client {
        let client = self.ops.catalog().client().await.expect("the catalog answers");
        let row = client
            .query_one("select name from tenant_database where kind = 'shared'", &[])
            .await
            .expect("there is one");
        let mut config: tokio_postgres::Config = cluster().await.admin_url("postgres").parse().expect("an address");
        config.dbname(row.get::<_, &str>(0));
        let (admin, connection) = config.connect(NoTls).await.expect("it connects");
        tokio::spawn(connection);
        admin
    }

    /// The e-mails in the tenant's own contacts.
    pub(crate) async fn emails(&self, tenant: TenantId) -> Vec<String> {
        let client = self.enter(tenant).await.expect("the tenant is served");
        let rows = client
            .query("select email from contacts order by email", &[])
            .await
            .expect("the table is there");
        rows.iter().map(|row| row.get(0)).collect()
    }

    pub(crate) async fn add_contact(&self, tenant: TenantId, email: &str) {
        let client = self.enter(tenant).await.expect("the tenant is served");
        let rows = client
            .execute("insert into contacts (email, name) values ($1, 'x')", &[&email])
            .await
            .expect("the tenant may write");
        assert_eq!(rows, 1);
    }
}

impl Fleet {
    /// Waits until no operation is left to do.
    pub(crate) async fn operations_end(&self) {
        let client = self.ops.catalog().client().await.unwrap();
        self.poll("operations to end", async || {
            let row = client
                .query_one(
                    "select count(*) from operation where state in ('pending', 'running', 'undoing')",
                    &[],
                )
                .await
                .unwrap();
            row.get::<_, i64>(0) == 0
        })
        .await;
    }

    /// Asks again and again until it is so.
    pub(crate) async fn poll(&self, what: &str, so: impl AsyncFn() -> bool) {
        let begun = std::time::Instant::now();
        while !so().await {
            assert!(begun.elapsed() < Duration::from_secs(60), "waited for {what}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The tenant that was created with this slug, once its operation has ended; also when it is purged since.
    pub(crate) async fn settled(&self, slug: &str) -> Tenant {
        let client = self.ops.catalog().client().await.unwrap();
        self.poll(&format!("{slug} to settle"), async || {
            let row = client
                .query_one(
                    "select count(*) from operation as o join tenant as t on t.id = o.tenant
                     where t.slug = $1 and o.state in ('pending', 'running', 'undoing')",
                    &[&slug],
                )
                .await
                .unwrap();
            row.get::<_, i64>(0) == 0
        })
        .await;
        let rows = client
            .query("select id from tenant where slug = $1", &[&slug])
            .await
            .unwrap();
        assert_eq!(rows.len(), 1, "{slug} was recorded once");
        let id = TenantId::from_uuid(rows[0].get(0));
        self.ops.get_tenant(&operator(), &id.into()).await.unwrap()
    }

    /// How many objects of the operation are not settled.
    pub(crate) async fn open_cleanups(&self, operation: tenantry_core::OperationId) -> i64 {
        let client = self.ops.catalog().client().await.unwrap();
        let row = client
            .query_one(
                "select count(*) from operation_cleanup where operation = $1 and settled_at is null",
                &[operation.as_uuid()],
            )
            .await
            .unwrap();
        row.get(0)
    }

    /// Every database, schema and role of this installation on the shared server, and the rows in its shared tables; not
    /// the databases in which migrations are tried, which come and go.
    pub(crate) async fn objects(&self) -> Vec<String> {
        let installation = self.ops.catalog().installation().as_str().to_owned();
        let server = cluster().await.connect("postgres").await;
        let like = format!("tn_{installation}_");
        let rows = server
            .query(
                "select 'database ' || datname from pg_database
                 where starts_with(datname::text, $1) and not starts_with(datname::text, $1 || 'try_')
                 union all select 'role ' || rolname from pg_roles where starts_with(rolname::text, $1)
                 order by 1",
                &[&like],
            )
            .await
            .unwrap();
        let mut objects: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        let databases: Vec<String> = objects
            .iter()
            .filter_map(|object| object.strip_prefix("database "))
            .map(str::to_owned)
            .collect();
        for database in databases {
            let client = cluster().await.connect(&database).await;
            let has_contacts: bool = client
                .query_one("select to_regclass('app.contacts') is not null", &[])
                .await
                .unwrap()
                .get(0);
            let contacts = match has_contacts {
                true => "union all select 'contact ' || (tenant_id || email) from app.contacts",
                false => "",
            };
            let rows = client
                .query(
                    &format!(
                        "select 'schema ' || nspname from pg_namespace where nspname ~ '^t_[0-9a-f]{{32}}$'
                         {contacts}
                         union all select 'ledger ' || schema || version from tenantry_private.migration"
                    ),
                    &[],
                )
                .await
                .unwrap_or_else(|error| panic!("{database}: {error:?}"));
            objects.extend(rows.iter().map(|row| row.get::<_, String>(0)));
        }
        objects
    }

    /// Deletes a tenant in such a way that its purge waits.
    pub(crate) async fn park_deletion(&self, tenant: TenantId) {
        let mut config = config();
        config.retention = Duration::from_secs(3600);
        let ops = ops_on(&self.catalog.url(), config).await;
        ops.delete_tenant(&operator(), &tenant.into()).await.unwrap();
    }
}
