//! Moves as acts, and how both homes look from outside.

use std::collections::BTreeMap;

use secrecy::ExposeSecret as _;
use tenantry_core::{Isolation, TenantId};
use tenantry_ops::{MoveError, MoveRequest, Operation, OperationState, Ops, Steer, Tenant, TenantRef};
use tenantry_testing::second_cluster;

use crate::fleet::{Fleet, operator};

/// `schema`, or `schema@two`.
pub(crate) fn request(to: &str) -> MoveRequest {
    let (isolation, server) = match to.split_once('@') {
        Some((isolation, server)) => (isolation, Some(server.to_owned())),
        None => (to, None),
    };
    MoveRequest {
        to: isolation.parse().unwrap(),
        server,
        force: false,
        wait: false,
        soak: None,
    }
}

/// What a child does: begins a move and works on it.
pub(crate) async fn act(ops: &Ops, tenant: &TenantRef, to: &str) {
    if let Ok(begun) = ops.move_tenant(&operator(), tenant, &request(to), None).await {
        let _ = ops.finish_move(&operator(), begun.id, &|_| ()).await;
    }
}

/// What a child does: moves a tenant with a soak of a second, and works on it to its end.
pub(crate) async fn soak(ops: &Ops, tenant: &TenantRef, to: &str) {
    let mut wish = request(to);
    wish.soak = Some(std::time::Duration::from_secs(1));
    let begun = ops.move_tenant(&operator(), tenant, &wish, None).await.unwrap();
    loop {
        let seen = ops.finish_move(&operator(), begun.id, &|_| ()).await.unwrap();
        if seen.state.is_final() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

/// What a child does: takes a tenant whose move soaks back.
pub(crate) async fn take_back(ops: &Ops, tenant: &TenantRef) {
    let tenant = ops.get_tenant(&operator(), tenant).await.unwrap();
    let newest = ops
        .list_operations(&operator(), Some(tenant.id), None, 1)
        .await
        .unwrap();
    if let Ok(begun) = ops.steer_move(&operator(), newest[0].id, Steer::Rollback).await {
        let _ = ops.finish_move(&operator(), begun.id, &|_| ()).await;
    }
}

impl Fleet {
    /// Two servers, `one` and `two`, of different releases where they can be had.
    pub(crate) async fn of_two() -> Self {
        let fleet = Self::start().await;
        fleet.add("two", second_cluster().await).await;
        fleet
    }

    pub(crate) async fn begin_move(&self, tenant: TenantId, to: &str) -> Result<Operation, MoveError> {
        self.ops
            .move_tenant(&operator(), &tenant.into(), &request(to), None)
            .await
    }

    /// Moves it, and tells how that ended.
    pub(crate) async fn moved(&self, tenant: TenantId, to: &str) -> Operation {
        let begun = self
            .begin_move(tenant, to)
            .await
            .unwrap_or_else(|error| panic!("{to}: {error}"));
        self.ops.finish_move(&operator(), begun.id, &|_| ()).await.unwrap()
    }

    /// The same for one that has to succeed.
    pub(crate) async fn moves(&self, tenant: TenantId, to: &str) {
        let ended = self.moved(tenant, to).await;
        assert_eq!(ended.state, OperationState::Done, "{to}: {ended:?}");
        assert_eq!(self.open_cleanups(ended.id).await, 0, "{to}");
    }

    pub(crate) async fn found(&self, tenant: TenantId) -> Tenant {
        self.ops.get_tenant(&operator(), &tenant.into()).await.unwrap()
    }

    /// `schema@two`.
    pub(crate) async fn place(&self, tenant: TenantId) -> String {
        let placement = self.found(tenant).await.placement.unwrap();
        format!("{}@{}", placement.isolation, placement.server)
    }

    /// A tenant with some rows, on the first server.
    pub(crate) async fn filled(&self, slug: &str, isolation: Isolation) -> Tenant {
        let mut wish = crate::fleet::request(slug, isolation);
        wish.server = Some("one".to_owned());
        let tenant = self.ops.create_tenant(&operator(), &wish, None).await.unwrap();
        self.add_contact(tenant.id, &format!("{slug}@example.com")).await;
        let client = self.enter(tenant.id).await.unwrap();
        client
            .execute(
                "insert into notes (contact, text) select id, n::text from contacts, generate_series(1, 20) n",
                &[],
            )
            .await
            .unwrap();
        tenant
    }

    /// Every row that the tenant sees.
    pub(crate) async fn rows(&self, tenant: TenantId) -> String {
        let client = self.enter(tenant).await.expect("the tenant is served");
        let row = client
            .query_one(
                "select (select string_agg(c::text, ';' order by c.id) from contacts c) || (select string_agg(n::text, ';' order by n.id) from notes n)",
                &[],
            )
            .await
            .unwrap();
        row.get(0)
    }

    /// What every database of the installation holds of a tenant: rows by database and schema, and the state of its fence.
    pub(crate) async fn traces(&self, tenant: TenantId) -> Traces {
        let like = format!("tn_{}_%", self.ops.catalog().installation());
        let mut traces = Traces::default();
        for (server, url) in self.servers().await {
            let names = connect(&url, "postgres")
                .await
                .query(
                    "select datname::text from pg_database where datname like $1 and datname not like '%\\_try\\_%'",
                    &[&like],
                )
                .await
                .unwrap();
            for name in names.iter().map(|row| row.get::<_, String>(0)) {
                let client = connect(&url, &name).await;
                let Ok(fence) = client
                    .query_opt(
                        "select state, epoch from tenantry_private.fence where tenant = $1",
                        &[tenant.as_uuid()],
                    )
                    .await
                else {
                    continue;
                };
                let key = format!("{server}/{name}");
                traces.open += usize::from(fence.is_some_and(|fence| fence.get::<_, i16>(0) == 0));
                let schemas = client
                    .query("select n.nspname::text from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.relname = 'notes' and c.relkind = 'r'", &[])
                    .await
                    .unwrap();
                for schema in schemas.iter().map(|row| row.get::<_, String>(0)) {
                    let count = format!("select count(*) from {schema}.notes where tenant_id = $1");
                    let notes: i64 = match client.query_one(&count, &[tenant.as_uuid()]).await {
                        Ok(row) => row.get(0),
                        // The end of another tenant's move has dropped it in between.
                        Err(error) if error.code() == Some(&tokio_postgres::error::SqlState::UNDEFINED_TABLE) => 0,
                        Err(error) => panic!("{error:?}"),
                    };
                    if notes > 0 {
                        traces.notes.insert(format!("{key}/{schema}"), notes);
                    }
                }
            }
        }
        traces
    }

    /// The servers' names and addresses.
    async fn servers(&self) -> Vec<(String, String)> {
        let client = self.ops.catalog().client().await.unwrap();
        let mut servers = Vec::new();
        for server in tenantry_catalog::server::list(&client).await.unwrap() {
            let admin = tenantry_catalog::server::administration(self.ops.catalog(), &client, server.id).await;
            servers.push((server.name, admin.unwrap().admin_url.expose_secret().to_owned()));
        }
        servers
    }

    /// Slots and publications of moves, and positions of their streams, on every server.
    pub(crate) async fn streams(&self) -> Vec<String> {
        let installation = self.ops.catalog().installation().as_str().to_owned();
        let (slots, like) = (format!("tn_{installation}_move_%"), format!("tn_{installation}_%"));
        let mut found = Vec::new();
        for (server, url) in self.servers().await {
            let Some(client) = try_connect(&url, "postgres").await else {
                continue;
            };
            let sql = "select 'slot ' || slot_name from pg_replication_slots where slot_name like $1";
            let rows = client.query(sql, &[&slots]).await.unwrap();
            found.extend(
                rows.iter()
                    .map(|row| format!("{} on {server}", row.get::<_, String>(0))),
            );
            let sql = "select datname::text from pg_database where datname like $1 and datname not like '%\\_try\\_%'";
            for row in client.query(sql, &[&like]).await.unwrap() {
                let Some(client) = try_connect(&url, row.get(0)).await else {
                    continue;
                };
                let sql = "select 'publication ' || pubname from pg_publication";
                let rows = client.query(sql, &[]).await.unwrap();
                found.extend(
                    rows.iter()
                        .map(|row| format!("{} on {server}", row.get::<_, String>(0))),
                );
                if let Ok(rows) = client
                    .query("select 'position ' || stream from tenantry_move.position", &[])
                    .await
                {
                    found.extend(
                        rows.iter()
                            .map(|row| format!("{} on {server}", row.get::<_, String>(0))),
                    );
                }
            }
        }
        found
    }

    /// Exactly one home is there, and open.
    pub(crate) async fn lives_once(&self, tenant: TenantId, why: &str) {
        let traces = self.traces(tenant).await;
        assert_eq!(traces.open, 1, "{why}: {traces:?}");
        assert_eq!(
            traces.notes.values().sum::<i64>(),
            self.notes(tenant).await,
            "{why}: {traces:?}"
        );
        assert_eq!(traces.notes.len(), 1, "{why}: {traces:?}");
    }

    pub(crate) async fn notes(&self, tenant: TenantId) -> i64 {
        let client = self.enter(tenant).await.expect("the tenant is served");
        client
            .query_one("select count(*) from notes", &[])
            .await
            .unwrap()
            .get(0)
    }

    /// The administrator's connection to where the tenant lives.
    pub(crate) async fn home_admin(&self, tenant: TenantId) -> tokio_postgres::Client {
        let client = self.ops.catalog().client().await.unwrap();
        let located = tenantry_catalog::placement::locate(self.ops.catalog(), &client, tenant).await;
        let located = located.unwrap().unwrap();
        let mut config: tokio_postgres::Config = located.admin_url.expose_secret().parse().unwrap();
        config.dbname(&located.database.name);
        let (admin, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        admin
    }
}

async fn try_connect(url: &str, database: &str) -> Option<tokio_postgres::Client> {
    let mut config: tokio_postgres::Config = url.parse().unwrap();
    config.dbname(database);
    let (client, connection) = config.connect(tokio_postgres::NoTls).await.ok()?;
    tokio::spawn(connection);
    Some(client)
}

async fn connect(url: &str, database: &str) -> tokio_postgres::Client {
    try_connect(url, database).await.expect("the server answers")
}

/// What is found of a tenant.
#[derive(Default, Debug)]
pub(crate) struct Traces {
    /// In how many databases it may be entered.
    pub(crate) open: usize,
    /// Its notes, by server, database and schema.
    pub(crate) notes: BTreeMap<String, i64>,
}
