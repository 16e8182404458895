//! What is measured on: a private PostgreSQL with fsync on, a catalog, tenants in each isolation, and beside the isolated
//! tables a plain copy of them without any row security.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use anyhow::{Context, Result, ensure};
use secrecy::{ExposeSecret, SecretString};
use tenantry::{Catalog, MasterKey, PoolConfig, ResolverConfig, Scope, TenantId, Tenantry};
use tenantry_catalog::{create_catalog, placement};
use tenantry_core::{Email, Isolation};
use tenantry_engine::migrate::Files;
use tenantry_ops::TenantRequest;
use tenantry_ops::{Authority, FirstOwner, FleetConfig, IdentityConfig, Login, Ops, Origin, Password, ServerRequest};
use tenantry_postgres::{Binaries, Cluster, ClusterOptions};
use tenantry_wire::{Connection, Endpoint, Options};
use uuid::Uuid;

use super::folder::Folder;

/// Tenants in shared tables: as many as there are connections in the busy case.
pub(crate) const CROWD: usize = 16;
/// Rows of each tenant.
const CONTACTS: i32 = 1000;
/// Owner of the plain copy's connections: an ordinary role, as an application without tenants would have.
const PLAIN_ROLE: &str = "bench_plain";
const PASSWORD: &str = "correct horse battery 7";
const ISSUER: &str = "tenantry";

/// Columns of a contact, as the CRM reads them.
pub(crate) const COLUMNS: &str = "id, name, email, phone, company, notes, created_at, updated_at";

/// Everything that is measured on. The private server stops when this is dropped.
pub(crate) struct World {
    pub(crate) ops: Ops,
    pub(crate) tenantry: Tenantry,
    /// In shared tables.
    pub(crate) shared: Vec<Home>,
    pub(crate) schema: Home,
    pub(crate) database: Home,
    pub(crate) catalog_url: String,
    catalog: Catalog,
    pub(crate) cluster: Cluster,
    plain_password: String,
    /// Of the server: after it.
    _folder: Folder,
}

/// A tenant with its rows.
#[derive(Clone)]
pub(crate) struct Home {
    pub(crate) id: TenantId,
    pub(crate) scope: Scope,
    /// The database it lives in.
    pub(crate) database: String,
    /// Where its tables stand.
    pub(crate) schema: String,
    /// Of its contacts.
    pub(crate) contacts: Arc<[Uuid]>,
    /// Of its owner.
    email: Email,
}

impl World {
    /// Starts PostgreSQL and fills it.
    ///
    /// # Errors
    ///
    /// When there is no PostgreSQL, or a step fails.
    pub(crate) async fn build(binaries: Binaries) -> Result<Self> {
        let folder = Folder::make("tenantry-bench")?;
        let mut options = ClusterOptions::new(folder.path(), binaries);
        options.settings.push(("max_connections".to_owned(), "300".to_owned()));
        // A checkpoint or a vacuum that starts in the slice of one side would be counted against it.
        options
            .settings
            .push(("checkpoint_timeout".to_owned(), "1h".to_owned()));
        options.settings.push(("max_wal_size".to_owned(), "4GB".to_owned()));
        let cluster = Cluster::start(options).await?;
        let catalog_password = SecretString::from(Uuid::new_v4().simple().to_string());
        create_catalog(&cluster.admin_url("postgres"), &catalog_password).await?;
        let catalog_url = format!(
            "postgresql://{name}:{password}@{}:{}/{name}",
            cluster.host(),
            cluster.port(),
            name = tenantry_catalog::CATALOG_NAME,
            password = catalog_password.expose_secret()
        );
        let catalog = Catalog::connect(&catalog_url, &master_key()).await?;
        let migrations = Files::from_embedded(tenantry_crm::MIGRATIONS.iter().copied())?;
        let ops = ops_with(catalog.clone(), Arc::new(migrations));
        ops.ensure_signing_keys().await?;
        let server = ServerRequest {
            name: "bench".to_owned(),
            region: None,
            capacity: None,
            connections: None,
            admin_url: SecretString::from(cluster.admin_url("postgres")),
        };
        ops.add_server(&authority(), &server).await?;
        let tenantry = handle(&catalog, CROWD)?;
        let mut shared = Vec::new();
        for number in 0..CROWD {
            shared.push(
                home(
                    &ops,
                    &tenantry,
                    &cluster,
                    &format!("shared-{number}"),
                    Isolation::Shared,
                )
                .await?,
            );
        }
        let schema = home(&ops, &tenantry, &cluster, "schema-0", Isolation::Schema).await?;
        let database = home(&ops, &tenantry, &cluster, "database-0", Isolation::Database).await?;
        let world = Self {
            ops,
            tenantry,
            shared,
            schema,
            database,
            catalog_url,
            catalog,
            cluster,
            plain_password: Uuid::new_v4().simple().to_string(),
            _folder: folder,
        };
        world.copy_plain().await?;
        Ok(world)
    }

    /// Stops PostgreSQL and removes its folder.
    pub(crate) async fn end(self) -> Result<()> {
        drop((
            self.tenantry,
            self.ops,
            self.catalog,
            self.shared,
            self.schema,
            self.database,
        ));
        Ok(self.cluster.stop().await?)
    }

    /// A handle whose pools hold this many connections.
    pub(crate) fn handle(&self, connections: usize) -> Result<Tenantry> {
        handle(&self.catalog, connections)
    }

    /// A connection without any context to the plain copies in a tenant database: the limit.
    pub(crate) async fn plain(&self, database: &str) -> Result<Connection> {
        let endpoint = Endpoint::from_url(&self.plain_url(database))?;
        Ok(Connection::connect(Arc::new(endpoint), &Options::default()).await?)
    }

    pub(crate) fn plain_url(&self, database: &str) -> String {
        format!(
            "postgres://{PLAIN_ROLE}:{}@{}:{}/{database}",
            self.plain_password,
            self.cluster.host(),
            self.cluster.port()
        )
    }

    /// As the superuser, for what is outside of every tenant.
    pub(crate) async fn admin(&self, database: &str) -> Result<Connection> {
        admin(&self.cluster, database).await
    }

    /// An access token of the tenant's owner.
    pub(crate) async fn token(&self, home: &Home) -> Result<String> {
        let login = Login {
            email: home.email.as_str(),
            password: SecretString::from(PASSWORD),
            tenant: None,
            origin: Origin::default(),
        };
        let token = self.ops.login(&login).await?.access_token;
        Ok(token.expose_secret().to_owned())
    }

    /// The same rows once more: in one table with an explicit tenant, and in one whose policy trusts a plain setting.
    async fn copy_plain(&self) -> Result<()> {
        let role = format!("create role {PLAIN_ROLE} login password '{}'", self.plain_password);
        self.admin("postgres").await?.batch(&role).await?;
        let mut schemas: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for home in self.shared.iter().chain([&self.schema, &self.database]) {
            schemas.entry(&home.database).or_default().insert(&home.schema);
        }
        for (database, schemas) in schemas {
            let mut admin = self.admin(database).await?;
            copy_rows(&mut admin, &schemas).await?;
            let connect = format!("grant connect on database {database} to {PLAIN_ROLE}");
            admin.batch(&connect).await?;
        }
        Ok(())
    }
}

/// Copies the contacts of these schemas into `plain`, without row security, with the same keys and indexes. The copy has no triggers,
/// so from here on the contacts have none either: what keeping the search's words costs is not what is measured.
async fn copy_rows(admin: &mut Connection, schemas: &BTreeSet<&str>) -> Result<()> {
    let first = schemas.first().context("a tenant database without tenants")?;
    let mut sql = format!(
        "create schema plain;
         create table plain.contacts (like {first}.contacts including all);
         alter table plain.contacts alter tenant_id drop default;"
    );
    for schema in schemas {
        sql += &format!(
            "insert into plain.contacts select * from {schema}.contacts;
             alter table {schema}.contacts disable trigger user;"
        );
    }
    sql += &format!(
        "create table plain.usual (like plain.contacts including all);
         insert into plain.usual select * from plain.contacts;
         alter table plain.usual enable row level security;
         create policy tenant on plain.usual using (tenant_id = (select current_setting('app.tenant_id', true)::uuid));
         grant usage on schema plain to {PLAIN_ROLE};
         grant select, insert, update, delete on plain.contacts, plain.usual to {PLAIN_ROLE}"
    );
    admin.batch(&sql).await?;
    Ok(admin.batch("vacuum (analyze)").await?)
}

pub(crate) fn authority() -> Authority {
    Authority::system("benchmark")
}

/// Guards nothing: the catalog lives as long as the benchmark.
pub(crate) fn master_key() -> MasterKey {
    MasterKey::from_bytes([7; 32])
}

/// The use cases on this catalog, with these migrations.
pub(crate) fn ops_with(catalog: Catalog, migrations: Arc<Files>) -> Ops {
    let mut fleet = FleetConfig::default();
    fleet.migrations = Some(migrations);
    Ops::with_fleet(catalog, IdentityConfig::new(ISSUER, ISSUER), fleet)
}

/// The same use cases with something decided otherwise.
pub(super) fn ops_of(world: &World, change: impl FnOnce(&mut FleetConfig)) -> Ops {
    let mut fleet = world.ops.fleet().clone();
    change(&mut fleet);
    Ops::with_fleet(world.catalog.clone(), world.ops.identity().clone(), fleet)
}

fn handle(catalog: &Catalog, connections: usize) -> Result<Tenantry> {
    let pool = PoolConfig {
        connections_max: connections,
        ..PoolConfig::default()
    };
    Ok(Tenantry::on_catalog(
        catalog.clone(),
        ResolverConfig::new(ISSUER, ISSUER),
        pool,
    )?)
}

async fn admin(cluster: &Cluster, database: &str) -> Result<Connection> {
    let endpoint = Endpoint::from_url(&cluster.admin_url(database))?;
    Ok(Connection::connect(Arc::new(endpoint), &Options::default()).await?)
}

/// Makes a tenant and fills it, in the tenant's own context.
async fn home(ops: &Ops, tenantry: &Tenantry, cluster: &Cluster, slug: &str, isolation: Isolation) -> Result<Home> {
    let mut request = TenantRequest::new(slug.parse()?, slug.parse()?);
    request.isolation = Some(isolation);
    let email: Email = format!("owner@{slug}.example.net").parse()?;
    request.admin = Some(FirstOwner {
        password: Some(Password::new(PASSWORD, &email)?),
        email: email.clone(),
        name: None,
    });
    let tenant = ops
        .create_tenant(&authority(), &request, None)
        .await
        .with_context(|| format!("can't make the tenant {slug}"))?;
    let client = ops.catalog().client().await?;
    let located = placement::locate(ops.catalog(), &client, tenant.id)
        .await?
        .context("the tenant has no place")?;
    let scope = tenantry.system_context(tenant.id, "benchmark").await?;
    let filled = scope
        .execute(
            "insert into contacts (name, email, phone, company, notes, created_at)
             select 'Person ' || n, 'person-' || n || '@example.com', '+41 44 000 00 00', 'Company ' || n % 50,
                    'Met at the fair, wants to hear from us in spring.', now() - n * interval '1 minute'
             from generate_series(1, $1::int4) n",
            &[&CONTACTS],
        )
        .await?;
    ensure!(filled == CONTACTS as u64, "the tenant {slug} was not filled");
    let mut admin = admin(cluster, &located.database.name).await?;
    admin
        .batch(&format!("analyze {}.contacts", located.placement.schema))
        .await?;
    let contacts: Vec<(Uuid,)> = scope
        .query_as("select id from contacts order by created_at", &[])
        .await?;
    Ok(Home {
        id: tenant.id,
        scope,
        database: located.database.name,
        schema: located.placement.schema,
        contacts: contacts.into_iter().map(|(id,)| id).collect(),
        email,
    })
}
