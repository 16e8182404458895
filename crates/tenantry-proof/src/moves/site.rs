//! Where it happens: a catalog and two servers of their own, which can be killed, each behind a proxy; and what runs there.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use tenantry::{PoolConfig, ResolverConfig, Scope, TenantId, Tenantry};
use tenantry_catalog::{Catalog, MasterKey};
use tenantry_engine::migrate::Files;
use tenantry_ops::{Authority, FleetConfig, IdentityConfig, Ops, ServerRequest, TenantRequest};
use tenantry_testing::{FaultProxy, OwnCluster, OwnClusterOptions, own_cluster, second_binaries};
use tokio::sync::Mutex;

use super::matrix::{Home, Server};
use crate::ledger::{MIGRATION, OPEN};

const KEY: [u8; 32] = [7; 32];
const ISSUER: &str = "https://moves.test";
const CATALOG: &str = "fleet";

/// How long a runner may be silent. Short, so that a run does not wait for long.
pub(super) const LEASE: Duration = Duration::from_secs(2);

pub(crate) fn operator() -> Authority {
    Authority::system("moves")
}

/// The use cases on this catalog, as a process of its own would have them.
pub(super) async fn ops_at(url: &str, online: bool) -> Result<Ops> {
    ops_with(url, online, MIGRATION).await
}

/// The same for an application of another structure.
pub(super) async fn ops_with(url: &str, online: bool, migration: &str) -> Result<Ops> {
    let mut config = FleetConfig::default();
    config.migrations = Some(Arc::new(Files::from_embedded([("0001_tables.sql", migration)])?));
    config.lease = LEASE;
    config.wait = Duration::from_secs(60);
    config.move_drain = Duration::from_secs(1);
    config.soak_look = Duration::from_millis(300);
    if online {
        config.move_online_rows = 0;
        // Also its small tables are divided.
        config.move_piece_rows = 20;
    }
    Ok(Ops::with_fleet(
        catalog_at(url).await?,
        IdentityConfig::new(ISSUER, ISSUER),
        config,
    ))
}

async fn catalog_at(url: &str) -> Result<Catalog> {
    Ok(Catalog::connect(url, &MasterKey::from_bytes(KEY)).await?)
}

/// A server that can be killed, and the way to it.
pub(super) struct Place {
    /// Behind a lock, since killing it and starting it again needs it whole.
    pub(super) cluster: Mutex<OwnCluster>,
    /// By which everybody but the proof itself reaches it.
    pub(super) proxy: FaultProxy,
    host: String,
    port: u16,
    login: (String, String),
}

impl Place {
    async fn start(options: OwnClusterOptions) -> Self {
        let cluster = own_cluster(options).await;
        let server = cluster.cluster().clone();
        let proxy = FaultProxy::start(server.host(), server.port()).await;
        Self {
            proxy,
            host: server.host().to_owned(),
            port: server.port(),
            login: (server.superuser().to_owned(), server.password().to_owned()),
            cluster: Mutex::new(cluster),
        }
    }

    /// Past the proxy.
    pub(super) fn url(&self, database: &str) -> String {
        self.url_at(&self.host, self.port, database)
    }

    fn proxied_url(&self, database: &str) -> String {
        self.url_at("127.0.0.1", self.proxy.port(), database)
    }

    fn url_at(&self, host: &str, port: u16, database: &str) -> String {
        let (user, password) = &self.login;
        format!("postgresql://{user}:{password}@{host}:{port}/{database}")
    }

    /// The superuser's connection, past the proxy.
    pub(super) async fn connect(&self, database: &str) -> Result<tokio_postgres::Client> {
        let config: tokio_postgres::Config = self.url(database).parse()?;
        let (client, connection) = config.connect(tokio_postgres::NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// `kill -9` of all its processes; it starts again after a while.
    pub(super) async fn kill(&self, away: Duration) {
        let mut cluster = self.cluster.lock().await;
        cluster.kill();
        tokio::time::sleep(away).await;
        tokio::task::block_in_place(|| cluster.restart());
    }
}

/// The catalog's server and both of the fleet's.
pub(super) struct Site {
    pub(super) catalog: Place,
    one: Place,
    two: Place,
    /// The operator's own.
    pub(super) ops: Ops,
    /// Hears nothing of the catalog where it is stalled.
    pub(super) deaf: FaultProxy,
}

impl Site {
    /// Three servers, the second one of another release where it can be had.
    pub(super) async fn start(migration: &str) -> Result<Self> {
        let logical = || OwnClusterOptions {
            settings: [
                ("wal_level", "logical"),
                ("max_replication_slots", "40"),
                ("max_wal_senders", "40"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
            ..OwnClusterOptions::default()
        };
        let second = OwnClusterOptions {
            binaries: Some(tokio::task::spawn_blocking(second_binaries).await?),
            ..logical()
        };
        let (catalog, one, two) = tokio::join!(
            Place::start(OwnClusterOptions::default()),
            Place::start(logical()),
            Place::start(second)
        );
        let admin = catalog.connect("postgres").await?;
        admin.batch_execute(&format!("create database {CATALOG}")).await?;
        let ops = ops_with(&catalog.url(CATALOG), false, migration).await?;
        ops.ensure_signing_keys().await?;
        let deaf = FaultProxy::start(&catalog.host, catalog.port).await;
        let site = Self {
            catalog,
            one,
            two,
            ops,
            deaf,
        };
        for server in Server::ALL {
            site.add(&site.ops, server).await?;
        }
        Ok(site)
    }

    /// Makes a server known to a fleet.
    pub(super) async fn add(&self, ops: &Ops, server: Server) -> Result<()> {
        let request = ServerRequest {
            name: server.name().to_owned(),
            region: None,
            capacity: None,
            connections: None,
            admin_url: self.place(server).proxied_url("postgres").into(),
        };
        ops.add_server(&operator(), &request).await?;
        Ok(())
    }

    pub(super) fn place(&self, server: Server) -> &Place {
        match server {
            Server::One => &self.one,
            Server::Two => &self.two,
        }
    }

    /// Every proxy that a fault may touch.
    pub(super) fn proxies(&self) -> [&FaultProxy; 4] {
        [&self.catalog.proxy, &self.one.proxy, &self.two.proxy, &self.deaf]
    }

    /// The catalog as the processes of a run reach it.
    pub(super) fn catalog_url(&self) -> String {
        self.catalog.proxied_url(CATALOG)
    }

    /// A process of the application; a deaf one can be kept from hearing what changes.
    pub(super) async fn application(&self, is_deaf: bool) -> Result<Tenantry> {
        let url = match is_deaf {
            true => self.catalog.url_at("127.0.0.1", self.deaf.port(), CATALOG),
            false => self.catalog_url(),
        };
        self.application_at(&url).await
    }

    /// The same on another catalog.
    pub(super) async fn application_at(&self, url: &str) -> Result<Tenantry> {
        let pool = PoolConfig {
            connections_max: 12,
            move_wait: Duration::from_secs(1),
            wait_timeout: Duration::from_secs(2),
            connect_timeout: Duration::from_secs(2),
            statement_timeout: Duration::from_secs(10),
            transaction_timeout: Duration::from_secs(10),
            ..PoolConfig::default()
        };
        let resolver = ResolverConfig::new(ISSUER, ISSUER);
        Ok(Tenantry::on_catalog(catalog_at(url).await?, resolver, pool)?)
    }

    /// A tenant at this home.
    pub(super) async fn create(&self, slug: &str, home: Home) -> Result<TenantId> {
        self.create_with(&self.ops, slug, home).await
    }

    /// The same in another fleet.
    pub(super) async fn create_with(&self, ops: &Ops, slug: &str, home: Home) -> Result<TenantId> {
        let mut request = TenantRequest::new(slug.parse()?, slug.parse()?);
        request.isolation = Some(home.isolation);
        request.server = Some(home.server.name().to_owned());
        let made = ops.create_tenant(&operator(), &request, None).await;
        Ok(made.with_context(|| format!("create {slug} at {home}"))?.id)
    }

    /// The same with an open ledger, and the way in.
    pub(super) async fn open(&self, application: &Tenantry, slug: &str, home: Home) -> Result<(TenantId, Scope)> {
        let tenant = self.create(slug, home).await?;
        let scope = application.system_context(tenant, "a run").await?;
        let began = tokio::time::Instant::now();
        while let Err(error) = scope.execute(OPEN, &[]).await {
            // Nothing is broken yet; the machine may be busy. Once they are open, they can't be opened again.
            let is_open = error.database().is_some_and(|error| error.code() == "23505");
            if is_open {
                break;
            }
            anyhow::ensure!(
                began.elapsed() < Duration::from_secs(60),
                "the accounts can't be opened: {error}"
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok((tenant, scope))
    }

    /// Where a tenant lives, by the catalog.
    pub(super) async fn home(&self, tenant: TenantId) -> Result<Home> {
        let found = self.ops.get_tenant(&operator(), &tenant.into()).await?;
        let placement = found.placement.context("it has a home")?;
        let server = Server::ALL.into_iter().find(|server| server.name() == placement.server);
        Ok(Home {
            isolation: placement.isolation,
            server: server.context("it lives on a server of ours")?,
        })
    }

    /// Has the application's roles run their transactions at this level from now on, also in databases that come later: called
    /// again and again.
    pub(super) async fn set_level(&self, level: &str) -> Result<()> {
        for server in Server::ALL {
            let admin = self.place(server).connect("postgres").await?;
            let setting = format!("default_transaction_isolation={level}");
            let like = format!(r"tn\_{}\_%\_app", self.ops.catalog().installation());
            let roles = admin
                .query(
                    "select rolname::text from pg_roles
                      where rolname like $1 and not coalesce($2 = any (rolconfig), false)",
                    &[&like, &setting],
                )
                .await?;
            for role in roles.iter().map(|row| row.get::<_, String>(0)) {
                let set = format!("alter role \"{role}\" set default_transaction_isolation = '{level}'");
                admin.batch_execute(&set).await?;
            }
        }
        Ok(())
    }
}
