//! A running server with everything behind it.

use std::{sync::Arc, time::Duration};

use aws_lc_rs::signature::Ed25519KeyPair;
use jsonwebtoken::EncodingKey;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use tenantry::{
    OutsideIssuer, PoolConfig, ResolverConfig, Tenantry,
    jobs::{self, Job, JobState, Run, Schedule, Worker},
};
use tenantry_catalog::{Catalog, MasterKey, change, fleet_state, signing_key};
use tenantry_core::{AccessClaims, Change, OperatorScope, OperatorScopes, PlanLimits};
use tenantry_engine::migrate::Files;
use tenantry_ops::{Authority, BackupStore, FleetConfig, IdentityConfig, OperatorKeyRequest, Ops, ServerRequest};
use tenantry_server::{Application, Config, Server, Services};
use tenantry_testing::{FaultProxy, TestDatabase, cluster, database};

use super::{Answer, Client};

/// The password of every account that the harness makes.
pub(crate) const PASSWORD: &str = "correct horse battery 7";

/// The server, a catalog and three tenants, one of each isolation.
pub(crate) struct App {
    /// Nobody.
    pub(crate) anonymous: Client,
    /// An operator with every right.
    pub(crate) operator: Client,
    /// In the order shared, schema, database.
    pub(crate) tenants: Vec<Tenant>,
    /// Stands between the server and the catalog.
    pub(crate) catalog_server: FaultProxy,
    /// Stands between the server and the tenants' databases.
    pub(crate) tenant_server: FaultProxy,
    pub(crate) tenantry: Tenantry,
    pub(crate) ops: Ops,
    catalog: Catalog,
    // Before the database, so that it stops first.
    pub(crate) server: Server,
    _catalog: TestDatabase,
}

/// A tenant with its owner.
pub(crate) struct Tenant {
    pub(crate) id: String,
    pub(crate) slug: String,
    pub(crate) isolation: &'static str,
    pub(crate) account: String,
    pub(crate) email: String,
    /// The owner.
    pub(crate) client: Client,
}

/// A job that fails.
#[derive(serde::Serialize, serde::Deserialize)]
pub(crate) struct Marked {
    pub(crate) mark: String,
}

impl Job for Marked {
    const KIND: &'static str = "marked";
}

async fn fails(_: Run, job: Marked) -> Result<(), jobs::Failure> {
    Err(jobs::Failure::never(format!("no luck with {}", job.mark)))
}

/// By the clock, for which no worker here has a handler: its schedule stays as it is.
#[derive(serde::Serialize, serde::Deserialize)]
struct Nightly {}

impl Job for Nightly {
    const KIND: &'static str = "nightly";
}

/// What a test wants otherwise.
pub(crate) struct Options {
    pub(crate) pool: PoolConfig,
    pub(crate) login_failures_max: i32,
    pub(crate) operation_wait: Duration,
    pub(crate) drain_delay: Duration,
    pub(crate) shutdown_grace: Duration,
    pub(crate) head_timeout: Duration,
    /// The application.
    pub(crate) router: fn() -> axum::Router,
    /// Whose access tokens are accepted beside ours.
    pub(crate) outside_issuers: Vec<OutsideIssuer>,
    /// Of which isolations there is a tenant.
    pub(crate) isolations: &'static [&'static str],
    /// Where backups stand.
    pub(crate) backups: Option<BackupStore>,
}

impl App {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// With one tenant in shared tables, for what isolation has nothing to do with.
    pub(crate) async fn small() -> Self {
        Self::start_with(|options| options.isolations = &["shared"]).await
    }

    /// What a certificate says, checked by the published keys alone, as somebody else would.
    pub(crate) async fn opened(&self, jws: &str, typ: &str) -> Value {
        let header = jsonwebtoken::decode_header(jws).unwrap();
        assert_eq!(header.typ.as_deref(), Some(typ));
        let keys = self.anonymous.get("/.well-known/jwks.json").await.expect(200);
        let keys = keys["keys"].as_array().unwrap();
        let key = keys.iter().find(|key| key["kid"] == json!(header.kid)).unwrap();
        let key: jsonwebtoken::jwk::Jwk = serde_json::from_value(key.clone()).unwrap();
        let mut validation = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::EdDSA);
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_aud = false;
        let key = jsonwebtoken::DecodingKey::from_jwk(&key).unwrap();
        jsonwebtoken::decode::<Value>(jws, &key, &validation).unwrap().claims
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut Options)) -> Self {
        let mut options = Options {
            pool: PoolConfig::default(),
            login_failures_max: 100,
            operation_wait: Duration::from_secs(50),
            drain_delay: Duration::ZERO,
            shutdown_grace: Duration::from_secs(10),
            head_timeout: Config::default().head_timeout,
            router: tenantry_crm::router,
            outside_issuers: Vec::new(),
            isolations: &["shared", "schema", "database"],
            backups: None,
        };
        change(&mut options);
        let cluster = cluster().await;
        let catalog = database().await;
        let catalog_server = FaultProxy::start(cluster.host(), cluster.port()).await;
        let tenant_server = FaultProxy::start(cluster.host(), cluster.port()).await;
        let through = |url: String, proxy: &FaultProxy| {
            url.replace(&format!(":{}/", cluster.port()), &format!(":{}/", proxy.port()))
        };

        let key = MasterKey::from_bytes([7; 32]);
        let catalog_handle = Catalog::connect(&through(catalog.url(), &catalog_server), &key)
            .await
            .unwrap();
        let ops = ops(catalog_handle.clone(), &options);
        let system = Authority::system("test");
        ops.ensure_signing_keys().await.unwrap();
        let request = ServerRequest {
            name: "one".to_owned(),
            region: None,
            capacity: None,
            connections: None,
            admin_url: through(cluster.admin_url("postgres"), &tenant_server).into(),
        };
        ops.add_server(&system, &request).await.unwrap();
        let request = OperatorKeyRequest {
            name: "test".to_owned(),
            scopes: OperatorScopes::all(),
            expires_at: None,
        };
        let (_, operator_key) = ops.create_operator_key(&system, &request).await.unwrap();

        let mut resolver = ResolverConfig::new("https://tenantry.test", "tests");
        resolver.domains = vec!["example.com".to_owned()];
        resolver.outside_issuers.clone_from(&options.outside_issuers);
        let tenantry = Tenantry::on_catalog(catalog_handle.clone(), resolver, options.pool).unwrap();
        let application = Application {
            router: (options.router)(),
            openapi: tenantry_crm::openapi(),
        };
        let config = Config {
            listen: ([127, 0, 0, 1], 0).into(),
            drain_delay: options.drain_delay,
            shutdown_grace: options.shutdown_grace,
            head_timeout: options.head_timeout,
            ..Config::default()
        };
        let server = tenantry_server::start(
            config,
            Services {
                ops: ops.clone(),
                tenantry: tenantry.clone(),
            },
            application,
        )
        .await
        .unwrap();

        let anonymous = Client::new(format!("http://{}", server.address()));
        let operator = anonymous.bearer(operator_key.expose_secret());
        let mut app = Self {
            anonymous,
            operator,
            tenants: Vec::new(),
            catalog_server,
            tenant_server,
            tenantry,
            ops,
            catalog: catalog_handle,
            server,
            _catalog: catalog,
        };
        for isolation in options.isolations {
            let tenant = app.create_tenant(&format!("{isolation}-ltd"), isolation).await;
            app.tenants.push(tenant);
        }
        app
    }

    /// Another tenant with its owner.
    pub(crate) async fn create_tenant(&self, slug: &str, isolation: &'static str) -> Tenant {
        let email = format!("owner@{slug}.example.net");
        let body = json!({
            "slug": slug, "name": slug, "isolation": isolation,
            "admin": { "email": email, "password": PASSWORD, "name": "Owner" }
        });
        let made = self.operator.post("/v1/tenants", body).await.expect(201);
        let client = self.client(&email, slug).await;
        let me = client.get("/v1/auth/me").await.expect(200);
        Tenant {
            id: text(&made["id"]),
            slug: slug.to_owned(),
            isolation,
            account: text(&me["account_id"]),
            email,
            client,
        }
    }

    /// Logs in.
    pub(crate) async fn log_in(&self, email: &str, password: &str, tenant: Option<&str>) -> Answer {
        let mut body = json!({ "email": email, "password": password });
        if let Some(tenant) = tenant {
            body["tenant"] = json!(tenant);
        }
        self.anonymous.post("/v1/auth/login", body).await
    }

    /// A client with a token for the tenant.
    async fn client(&self, email: &str, tenant: &str) -> Client {
        let tokens = self.log_in(email, PASSWORD, Some(tenant)).await.expect(200);
        self.anonymous.bearer(tokens["access_token"].as_str().unwrap())
    }

    /// A new member of the tenant with this role.
    pub(crate) async fn member(&self, tenant: &Tenant, role: &str) -> Client {
        let email = format!("second-{role}@{}.example.net", tenant.slug);
        let body = json!({ "email": email, "password": PASSWORD, "name": role, "role": role });
        self.operator
            .post(&format!("/v1/tenants/{}/members", tenant.id), body)
            .await
            .expect(201);
        self.client(&email, &tenant.slug).await
    }

    /// A dead job of the tenant, whose payload and error hold the mark; its id.
    pub(crate) async fn dead_job(&self, tenant: &Tenant, mark: &str) -> String {
        let scope = self
            .tenantry
            .system_context(tenant.id.parse().unwrap(), "test")
            .await
            .unwrap();
        let id = scope.enqueue(&Marked { mark: mark.to_owned() }).await.unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let worker = Worker::new(&self.tenantry)
            .handle(fails)
            .poll(Duration::from_millis(5), Duration::from_millis(20));
        let running = tokio::spawn(worker.run(async {
            let _ = stopped.await;
        }));
        self.within_seconds(20, async || {
            let dead = scope.jobs(&[JobState::Dead], None, 100).await.unwrap();
            dead.iter().any(|job| job.id == id)
        })
        .await;
        let _ = stop.send(());
        running.await.unwrap();
        id.to_string()
    }

    /// A schedule of the tenant's own.
    pub(crate) async fn schedule(&self, tenant: &Tenant, name: &str) {
        let scope = self
            .tenantry
            .system_context(tenant.id.parse().unwrap(), "test")
            .await
            .unwrap();
        let nightly = Schedule::new("0 3 * * *").unwrap();
        scope.set_schedule(name, &nightly, &Nightly {}).await.unwrap();
    }

    /// The same token, as it was an hour ago, signed by the key that signs now.
    pub(crate) async fn expired(&self, token: &str) -> String {
        let client = self.catalog.client().await.unwrap();
        let (id, sealed) = signing_key::current(&client).await.unwrap().unwrap();
        let private = self.catalog.open(signing_key::private_key_column(id), &sealed).unwrap();
        let key = EncodingKey::from_ed_der(&private);
        // What is changed below is accepted as it is: else the test would refuse it for the wrong reason.
        let same = again(token, &key, 0);
        self.anonymous.bearer(&same).get("/v1/auth/me").await.expect(200);
        again(token, &key, 3600)
    }

    /// The same token, signed by somebody else's key.
    pub(crate) fn forged(&self, token: &str) -> String {
        let pair = Ed25519KeyPair::generate().expect("a key pair");
        let private = pair.to_pkcs8v1().expect("a private key");
        again(token, &EncodingKey::from_ed_der(private.as_ref()), 0)
    }

    /// The newest of the application's migrations.
    pub(crate) async fn newest_version(&self) -> i64 {
        let client = self.catalog.client().await.unwrap();
        let row = client
            .query_one("select max(version) from app_migration", &[])
            .await
            .unwrap();
        row.get(0)
    }

    /// Lets the catalog believe that the tenant's own schema lacks it.
    pub(crate) async fn forget_newest_version(&self, tenant: &Tenant) {
        let client = self.catalog.client().await.unwrap();
        let sql = "delete from app_migration as m using placement as p
                   where p.tenant_database = m.tenant_database and p.schema_name = m.schema_name
                     and p.tenant::text = $1 and m.version = (select max(version) from app_migration)";
        assert_eq!(client.execute(sql, &[&tenant.id]).await.unwrap(), 1);
    }

    /// Lets the catalog know of a failed attempt to migrate the tenant's schema.
    pub(crate) async fn note_failure(&self, tenant: &Tenant) {
        let client = self.catalog.client().await.unwrap();
        let sql = "insert into app_migration_failure (tenant_database, schema_name, version, error)
                   select p.tenant_database, p.schema_name, 1, 'it was away' from placement as p where p.tenant::text = $1";
        assert_eq!(client.execute(sql, &[&tenant.id]).await.unwrap(), 1);
    }

    /// Drops the floor of a table in the tenant's own schema; says what that is called.
    pub(crate) async fn drop_floor(&self, tenant: &Tenant, table: &str) -> String {
        let client = self.catalog.client().await.unwrap();
        let sql =
            "select d.name, p.schema_name from placement as p join tenant_database as d on d.id = p.tenant_database
                   where p.tenant::text = $1";
        let row = client.query_one(sql, &[&tenant.id]).await.unwrap();
        let (database, schema): (String, String) = (row.get(0), row.get(1));
        let admin = cluster().await.connect(&database).await;
        let sql = format!("drop policy tenantry_floor on {schema}.{table}");
        admin.batch_execute(&sql).await.unwrap();
        format!("policy tenantry_floor on table {table}")
    }

    /// Lets PostgreSQL count the rows of the shared tables.
    pub(crate) async fn analyze_shared_tables(&self) {
        let client = self.catalog.client().await.unwrap();
        let sql = "select name from tenant_database where kind = 'shared'";
        for row in client.query(sql, &[]).await.unwrap() {
            let admin = cluster().await.connect(row.get(0)).await;
            admin.batch_execute("analyze").await.unwrap();
        }
    }

    /// Where the tenant's tables stand: a connection as the administrator, and the schema.
    pub(crate) async fn tables_of(&self, tenant: &Tenant) -> (tokio_postgres::Client, String) {
        let client = self.catalog.client().await.unwrap();
        let sql =
            "select d.name, p.schema_name from placement as p join tenant_database as d on d.id = p.tenant_database
                   where p.tenant::text = $1";
        let row = client.query_one(sql, &[&tenant.id]).await.unwrap();
        (cluster().await.connect(row.get(0)).await, row.get(1))
    }

    /// Takes the first migration out of the ledger of the tenant's own schema: what comes next is refused there.
    pub(crate) async fn spoil_ledger(&self, tenant: &Tenant) {
        let (admin, schema) = self.tables_of(tenant).await;
        let sql = "delete from tenantry_private.migration
                   where schema = $1 and version = (select min(version) from tenantry_private.migration where schema = $1)";
        assert_eq!(admin.execute(sql, &[&schema]).await.unwrap(), 1);
    }

    /// Gives the plan of all tenants here these limits, and waits until this process keeps to them.
    pub(crate) async fn limit_plan(&self, limits: &PlanLimits) {
        let plan = "free".parse().unwrap();
        let system = Authority::system("test");
        self.ops.set_plan_limits(&system, &plan, limits).await.unwrap();
        self.tenantry.resolver().unwrap().catch_up().await.unwrap();
        // The pools hear of it from another task.
        tokio::time::sleep(Duration::from_millis(200)).await;
    }

    /// Compares what tenants have with what their plans give.
    pub(crate) async fn measure(&self) -> usize {
        self.tenantry.flush_usage().await.unwrap();
        let measured = self.ops.measure_limited().await.unwrap();
        tokio::time::sleep(Duration::from_millis(700)).await;
        measured
    }

    /// Another process on the same catalog, as far as plans and pools go.
    pub(crate) fn another_process(&self) -> Tenantry {
        let resolver = ResolverConfig::new("https://tenantry.test", "tests");
        Tenantry::on_catalog(self.catalog.clone(), resolver, PoolConfig::default()).unwrap()
    }

    /// An operator who may do no more than this.
    pub(crate) async fn operator_with(&self, scopes: &[OperatorScope]) -> Client {
        let request = OperatorKeyRequest {
            name: format!("narrow {scopes:?}"),
            scopes: scopes.iter().copied().collect(),
            expires_at: None,
        };
        let made = self.ops.create_operator_key(&Authority::system("test"), &request).await;
        self.anonymous.bearer(made.unwrap().1.expose_secret())
    }

    /// Requires a version of everybody.
    pub(crate) async fn require_version(&self, version: i64) {
        let mut client = self.catalog.client().await.unwrap();
        let transaction = client.transaction().await.unwrap();
        fleet_state::set_minimum(&transaction, version).await.unwrap();
        transaction.commit().await.unwrap();
    }

    /// Changes the catalog by hand, as tests of what another process did.
    pub(crate) async fn in_catalog(&self, sql: &str) {
        let client = self.catalog.client().await.unwrap();
        client.batch_execute(sql).await.unwrap();
        change::announce(&client, Change::Servers).await.unwrap();
    }

    /// Asks until it is so, for at most a second: what ends rights must bite by then.
    pub(crate) async fn within_a_second(&self, so: impl AsyncFn() -> bool) {
        self.within_seconds(1, so).await;
    }

    pub(crate) async fn within_seconds(&self, seconds: u64, so: impl AsyncFn() -> bool) {
        let asking = async { while !so().await {} };
        let seconds = Duration::from_secs(seconds);
        tokio::time::timeout(seconds, asking)
            .await
            .unwrap_or_else(|_| panic!("not so within {seconds:?}"));
    }
}

fn ops(catalog: Catalog, options: &Options) -> Ops {
    let mut identity = IdentityConfig::new("https://tenantry.test", "tests");
    identity.login_budget.per_account_and_address = options.login_failures_max;
    let mut fleet = FleetConfig::default();
    fleet.migrations = Some(Arc::new(
        Files::from_embedded(tenantry_crm::MIGRATIONS.iter().copied()).unwrap(),
    ));
    fleet.wait = options.operation_wait;
    fleet.backups.clone_from(&options.backups);
    Ops::with_fleet(catalog, identity, fleet)
}

/// The token's claims, so many seconds earlier, under the same header.
fn again(token: &str, key: &EncodingKey, earlier_s: i64) -> String {
    let header = jsonwebtoken::decode_header(token).expect("a header");
    let mut claims: AccessClaims = jsonwebtoken::dangerous::insecure_decode_claims(token).expect("claims");
    for time in [&mut claims.iat, &mut claims.nbf, &mut claims.exp] {
        *time -= earlier_s;
    }
    jsonwebtoken::encode(&header, &claims, key).expect("a token")
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}
