//! What both servers hold at the end: of one tenant, and of moves that have ended.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use tenantry_catalog::placement;
use tenantry_core::TenantId;
use tenantry_sql::Identifier;
use tokio_postgres::Client;

use super::{matrix::Server, site::Site};
use crate::ledger::{Seen, look, read_of};

/// Where rows of tenants stand, and which fences are open, over all databases.
#[derive(Default)]
pub(super) struct Traces {
    /// Rows of a tenant by server, database and schema.
    rows: BTreeMap<TenantId, BTreeMap<String, i64>>,
    /// The databases in which a tenant may be entered.
    open: BTreeMap<TenantId, Vec<String>>,
    /// What should not be there any more, or never.
    pub(super) left_over: Vec<String>,
}

impl Site {
    /// Looks at every database of the installation.
    pub(super) async fn traces(&self) -> Result<Traces> {
        let known = self.known().await?;
        let mut traces = Traces::default();
        let like = format!(r"tn\_{}\_%", self.ops.catalog().installation());
        for server in Server::ALL {
            let admin = self.place(server).connect("postgres").await?;
            let slots = "select 'slot ' || slot_name from pg_replication_slots where slot_name like $1";
            traces.note(server, &admin.query(slots, &[&like]).await?);
            let databases =
                "select datname::text from pg_database where datname like $1 and datname not like '%\\_try\\_%'";
            for row in admin.query(databases, &[&like]).await? {
                let name: String = row.get(0);
                if !known.contains(&(server, name.clone(), None)) {
                    traces.left_over.push(format!("database {name} on {}", server.name()));
                    continue;
                }
                let client = self.place(server).connect(&name).await?;
                self.traces_in(server, &name, &client, &known, &mut traces).await?;
            }
        }
        let client = self.ops.catalog().client().await?;
        let open = "select 'clean-up of ' || c.kind || ' ' || c.name from operation_cleanup c join operation o on o.id = c.operation
                     where c.settled_at is null and o.state in ('done', 'failed', 'cancelled')";
        let rows = client.query(open, &[]).await?;
        traces.left_over.extend(rows.iter().map(|row| row.get::<_, String>(0)));
        Ok(traces)
    }

    async fn traces_in(
        &self,
        server: Server,
        database: &str,
        client: &Client,
        known: &Known,
        traces: &mut Traces,
    ) -> Result<()> {
        let publications = "select 'publication ' || pubname from pg_publication";
        traces.note(server, &client.query(publications, &[]).await?);
        // The schema for positions is there once a stream has come here.
        if let Ok(rows) = client
            .query("select 'position ' || stream from tenantry_move.position", &[])
            .await
        {
            traces.note(server, &rows);
        }
        let open = client
            .query("select tenant from tenantry_private.fence where state = 0", &[])
            .await?;
        for tenant in open.iter().map(|row| TenantId::from_uuid(row.get(0))) {
            traces
                .open
                .entry(tenant)
                .or_default()
                .push(format!("{}/{database}", server.name()));
        }
        let schemas = "select n.nspname::text from pg_class c join pg_namespace n on n.oid = c.relnamespace
                        where c.relname = 'entry' and c.relkind = 'r'";
        for row in client.query(schemas, &[]).await? {
            let schema: String = row.get(0);
            if schema != "app" && !known.contains(&(server, database.to_owned(), Some(schema.clone()))) {
                traces.left_over.push(format!("schema {schema} on {}", server.name()));
            }
            let name = Identifier::new(schema.as_str())?;
            let count = format!(
                "select tenant_id, count(*) from (select tenant_id from {name}.entry union all select tenant_id from {name}.account
                     union all select tenant_id from {name}.thing) t group by tenant_id"
            );
            for row in client.query(&count, &[]).await? {
                let rows = traces.rows.entry(TenantId::from_uuid(row.get(0))).or_default();
                rows.insert(format!("{}/{database}/{schema}", server.name()), row.get(1));
            }
        }
        Ok(())
    }

    /// The databases, and the schemas in them, that the catalog knows of.
    async fn known(&self) -> Result<Known> {
        let client = self.ops.catalog().client().await?;
        let rows = client
            .query(
                "select s.name, d.name, null from tenant_database d join server s on s.id = d.server
                 union all select s.name, d.name, p.schema_name
                   from placement p join tenant_database d on d.id = p.tenant_database join server s on s.id = d.server",
                &[],
            )
            .await?;
        let server = |name: &str| {
            if name == Server::One.name() {
                Server::One
            } else {
                Server::Two
            }
        };
        Ok(rows
            .iter()
            .map(|row| (server(row.get(0)), row.get(1), row.get::<_, Option<String>>(2)))
            .collect())
    }

    /// Every row of a tenant where it lives, by way of the superuser.
    pub(super) async fn see(&self, tenant: TenantId) -> Result<Seen> {
        let catalog = self.ops.catalog();
        let client = catalog.client().await?;
        let located = placement::locate(catalog, &client, tenant)
            .await?
            .context("it has a home")?;
        drop(client);
        let server = self.home(tenant).await?.server;
        let admin = self.place(server).connect(&located.placement.database_name).await?;
        let schema = Identifier::new(located.placement.schema.as_str())?;
        let row = admin.query_one(&read_of(&schema, tenant), &[]).await?;
        let texts = |column: usize| row.get::<_, Vec<String>>(column);
        look(&texts(0), &texts(1), &texts(2)).context("the rows are those of a ledger")
    }
}

/// A server, one of its databases, and a schema in it, or the database as such.
type Known = BTreeSet<(Server, String, Option<String>)>;

impl Traces {
    fn note(&mut self, server: Server, rows: &[tokio_postgres::Row]) {
        let found = rows
            .iter()
            .map(|row| format!("{} on {}", row.get::<_, String>(0), server.name()));
        self.left_over.extend(found);
    }

    /// What is wrong with where this tenant is: it has rows in one place, and one fence that is open.
    pub(super) fn of(&self, tenant: TenantId) -> Vec<String> {
        let mut wrong = Vec::new();
        match self.open.get(&tenant).map(Vec::as_slice) {
            Some([_]) => {}
            open => wrong.push(format!("it may be entered in {open:?}")),
        }
        match self.rows.get(&tenant) {
            Some(rows) if rows.len() == 1 => {}
            rows => wrong.push(format!("it has rows in {rows:?}")),
        }
        wrong
    }
}
