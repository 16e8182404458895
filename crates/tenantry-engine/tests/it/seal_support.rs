//! A bootstrapped tenant database with one isolated table, and sessions of its application role.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

use secrecy::ExposeSecret;
use tenantry_core::{
    AccountId, Epoch, InstallationId, Role, TenantDatabaseId, TenantId, Tier,
    seal::{Key, Place, Signed, Token},
};
use tenantry_engine::{
    Roles,
    admin::ServerAdmin,
    bootstrap::{self, Bootstrapped, DatabaseRequest},
    fence,
};
use tenantry_sql::{Identifier, Qualified};
use tenantry_testing::{TestCluster, TestDatabase};
use tokio_postgres::{Client, Config, NoTls};
use uuid::Uuid;

pub(crate) struct Fixture {
    pub(crate) database: TestDatabase,
    pub(crate) admin: ServerAdmin,
    pub(crate) installation: InstallationId,
    pub(crate) id: TenantDatabaseId,
    pub(crate) made: Bootstrapped,
    /// The administrator's connection to the database.
    pub(crate) client: Client,
    pub(crate) a: TenantId,
    pub(crate) b: TenantId,
}

pub(crate) fn installation() -> InstallationId {
    tenantry_testing::installation_id().parse().unwrap()
}

pub(crate) fn new_tenant() -> TenantId {
    TenantId::from_uuid(Uuid::now_v7())
}

/// In the sealed tier, on the default server.
pub(crate) async fn sealed() -> Fixture {
    Fixture::on(tenantry_testing::cluster().await).await
}

impl Fixture {
    pub(crate) async fn on(cluster: &TestCluster) -> Self {
        let database = tenantry_testing::database_on(cluster).await;
        let admin = ServerAdmin::new(database.config()).unwrap();
        let fixture = Self::make(database, admin, false).await;
        assert_eq!(fixture.made.tier, Tier::Sealed);
        fixture
    }

    /// By an administrator that is no superuser, hence in the signed tier.
    pub(crate) async fn signed_on(cluster: &TestCluster) -> Self {
        let database = tenantry_testing::database_on(cluster).await;
        let restricted = database.restricted_admin().await;
        let admin = ServerAdmin::new(restricted.config().clone()).unwrap();
        let fixture = Self::make(database, admin, false).await;
        assert_eq!(fixture.made.tier, Tier::Signed);
        fixture
    }

    async fn make(database: TestDatabase, admin: ServerAdmin, force_signed: bool) -> Self {
        let installation = installation();
        let id = TenantDatabaseId::from_uuid(Uuid::now_v7());
        bootstrap::server(&admin, &installation, None).await.unwrap();
        let request = DatabaseRequest {
            installation: &installation,
            database: id,
            name: database.name(),
            credentials: None,
            force_signed,
        };
        let made = bootstrap::database(&admin, &request).await.unwrap();
        if tenantry_testing::hardened() {
            // As the superuser: nobody else may.
            let superuser = ServerAdmin::new(database.config()).unwrap();
            let hardened = bootstrap::harden(&superuser, &installation, database.name(), &[])
                .await
                .unwrap();
            assert!(hardened.is_whole(), "{hardened:?}");
        }
        let client = admin.connect(database.name()).await.unwrap();
        let (a, b) = (new_tenant(), new_tenant());
        for tenant in [a, b] {
            fence::register(&client, tenant, Epoch::FIRST, true).await.unwrap();
        }
        let fixture = Self {
            database,
            admin,
            installation,
            id,
            made,
            client,
            a,
            b,
        };
        fixture.make_table().await;
        fixture
    }

    /// `app.note (tenant_id, id, body)`, with a row of each tenant.
    async fn make_table(&self) {
        let owner = Roles::of(&self.installation).owner;
        let app = Roles::app(&self.installation, self.id);
        let table = Qualified::new("app", "note").unwrap();
        let columns = [Identifier::new("id").unwrap(), Identifier::new("body").unwrap()];
        let mut statements = vec![
            format!("set role {owner}"),
            format!(
                "create table {table} (tenant_id uuid not null default tenantry.tenant_id(), id int not null, body text, primary key (tenant_id, id))"
            ),
        ];
        statements.extend(tenantry_sql::isolate_rows(&table));
        statements.extend(tenantry_sql::isolated_table_grants(&table, &columns, &app));
        statements.push("reset role".to_owned());
        self.client.batch_execute(&statements.join(";\n")).await.unwrap();
        for tenant in [self.a, self.b] {
            let mut session = self.session().await;
            session.enter(tenant).await;
            let body = format!("of {tenant}");
            session
                .write_as(tenant, &format!("insert into app.note (id, body) values (1, '{body}')"))
                .await
                .unwrap();
        }
    }

    /// How the application role connects.
    pub(crate) fn app_config(&self) -> Config {
        self.app_config_for(self.database.name())
    }

    pub(crate) fn app_config_for(&self, database: &str) -> Config {
        self.database
            .cluster()
            .config_for(database, &self.made.app_role, self.made.app_password.expose_secret())
    }

    pub(crate) async fn app_client(&self) -> Client {
        connect(&self.app_config()).await
    }

    /// A new connection of the application role.
    pub(crate) async fn session(&self) -> Session {
        Session::of(self.app_client().await, self.made.key.clone(), self.made.tier).await
    }

    pub(crate) async fn superuser(&self) -> Client {
        self.database.connect().await
    }
}

pub(crate) async fn connect(config: &Config) -> Client {
    let (client, connection) = config.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// The time, as a signer takes it.
pub(crate) fn now_us() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros()).unwrap()
}

/// A connection of the application role with what the pool keeps beside one.
pub(crate) struct Session {
    pub(crate) client: Client,
    pub(crate) key: Key,
    pub(crate) pid: i32,
    tier: Tier,
    place: Place,
    counter: AtomicU64,
    last: Option<Signed>,
}

/// The SQLSTATE and message of a refusal.
pub(crate) fn refusal(error: &tokio_postgres::Error) -> (String, String) {
    let db = error
        .as_db_error()
        .unwrap_or_else(|| panic!("no answer of the server: {error:?}"));
    (db.code().code().to_owned(), db.message().to_owned())
}

impl Session {
    pub(crate) async fn of(client: Client, key: Key, tier: Tier) -> Self {
        let pid = client.query_one("select pg_backend_pid()", &[]).await.unwrap().get(0);
        Self {
            client,
            key,
            pid,
            tier,
            place: Place::PRIMARY,
            counter: AtomicU64::new(1),
            last: None,
        }
    }

    /// The same on a standby.
    pub(crate) fn at(self, place: Place) -> Self {
        Self { place, ..self }
    }

    /// A token for this session, as the pool would make it next.
    pub(crate) fn token(&self, tenant: TenantId) -> Token {
        let counter = self.counter.fetch_add(1, Ordering::Relaxed);
        Token {
            tenant,
            counter,
            fresh: self.last.is_none(),
            raw: false,
            role: Role::Member,
            now_us: now_us(),
            backend_pid: self.pid,
            account: None,
            epoch: Epoch::FIRST,
        }
    }

    pub(crate) fn account() -> AccountId {
        AccountId::from_uuid(Uuid::from_u128(0xacc))
    }

    pub(crate) async fn try_enter(&mut self, signed: &Signed) -> Result<(), tokio_postgres::Error> {
        enter(&self.client, signed).await?;
        self.last = Some(signed.clone());
        Ok(())
    }

    /// Binds the session; in the signed tier it only makes sure that a token is accepted.
    pub(crate) async fn enter(&mut self, tenant: TenantId) -> Signed {
        self.enter_with(self.token(tenant)).await
    }

    pub(crate) async fn enter_with(&mut self, token: Token) -> Signed {
        let signed = self.key.sign_at(&token, self.place);
        self.try_enter(&signed).await.unwrap();
        signed
    }

    /// The seal that the pool would expect.
    pub(crate) fn seal(&self) -> String {
        self.last.as_ref().expect("entered before").seal()
    }

    /// Opens a transaction in the tenant's context: by the expectation in the sealed tier, by a new token in the signed.
    pub(crate) async fn begin(&mut self, tenant: TenantId) {
        self.begin_at(tenant, "read committed").await;
    }

    pub(crate) async fn begin_at(&mut self, tenant: TenantId, isolation: &str) {
        self.client
            .batch_execute(&format!("begin isolation level {isolation}"))
            .await
            .unwrap();
        self.open(tenant).await.unwrap();
    }

    /// Opens the running transaction.
    pub(crate) async fn open(&mut self, tenant: TenantId) -> Result<(), tokio_postgres::Error> {
        match self.tier {
            Tier::Sealed => expect(&self.client, &self.seal()).await,
            Tier::Signed => {
                let signed = self.key.sign_at(&self.token(tenant), self.place);
                self.try_enter(&signed).await
            }
        }
    }

    /// One statement in a transaction of its own, in the tenant's context.
    pub(crate) async fn write_as(&mut self, tenant: TenantId, sql: &str) -> Result<u64, tokio_postgres::Error> {
        self.client.batch_execute("begin").await.unwrap();
        self.open(tenant).await?;
        let done = self.client.execute(sql, &[]).await;
        self.client.batch_execute("commit").await.unwrap();
        done
    }

    /// The notes that the running transaction sees.
    pub(crate) async fn notes(&self) -> Result<Vec<String>, tokio_postgres::Error> {
        let rows = self
            .client
            .query("select body from app.note order by body", &[])
            .await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// The notes that a transaction in the tenant's context sees.
    pub(crate) async fn notes_as(&mut self, tenant: TenantId) -> Result<Vec<String>, tokio_postgres::Error> {
        self.client.batch_execute("begin").await.unwrap();
        let opened = self.open(tenant).await;
        let notes = match opened {
            Ok(()) => self.notes().await,
            Err(error) => Err(error),
        };
        self.client.batch_execute("rollback").await.unwrap();
        notes
    }
}

pub(crate) async fn enter(client: &Client, signed: &Signed) -> Result<(), tokio_postgres::Error> {
    client
        .execute(
            "select tenantry.enter($1, $2)",
            &[&signed.message.as_slice(), &signed.mac.as_slice()],
        )
        .await?;
    Ok(())
}

pub(crate) async fn expect(client: &Client, seal: &str) -> Result<(), tokio_postgres::Error> {
    client
        .execute("select pg_catalog.set_config('tenantry.expect', $1, true)", &[&seal])
        .await?;
    Ok(())
}

/// Runs an `async fn(Fixture)` in both tiers, each on two versions of PostgreSQL.
macro_rules! in_each_tier {
    ($($scenario:ident)*) => {$(
        mod $scenario {
            use crate::seal_support::Fixture;

            #[tokio::test]
            async fn sealed() {
                super::$scenario(Fixture::on(tenantry_testing::cluster().await).await).await;
            }

            #[tokio::test]
            async fn sealed_on_another_version() {
                super::$scenario(Fixture::on(tenantry_testing::second_cluster().await).await).await;
            }

            #[tokio::test]
            async fn signed() {
                super::$scenario(Fixture::signed_on(tenantry_testing::cluster().await).await).await;
            }

            #[tokio::test]
            async fn signed_on_another_version() {
                super::$scenario(Fixture::signed_on(tenantry_testing::second_cluster().await).await).await;
            }
        }
    )*};
}
pub(crate) use in_each_tier;
