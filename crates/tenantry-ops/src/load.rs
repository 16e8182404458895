//! How near the fleet's servers are to where it begins to hurt. `docs/scale.md` says where the limits come from.

use futures_util::{StreamExt as _, stream};
use tenantry_catalog::{
    server,
    tenant_database::{self, DatabaseKind, TenantDatabase},
};
use tenantry_core::{OperatorScope, ServerId};
use tenantry_engine::load::{self, Load};

use crate::{
    Authority, Ops, SafetyError,
    runner::{Failure, administer},
};

/// Servers that are asked at the same time.
const AT_ONCE: usize = 4;

/// Above what a warning is due.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// Tables in one database: backends that go through many schemas, dumps and vacuums of the system catalogs feel each.
    pub tables_per_database: i64,
    /// Databases on one server: each has its system catalogs, and autovacuum goes round them.
    pub databases_per_server: i64,
    /// The share of the connections that are in use.
    pub connections_used: f64,
    /// How long a transaction may be open: meanwhile nothing that was deleted since is cleared away, in any table.
    pub transaction_s: f64,
    /// How old the oldest row version may be, in multiples of the age at which PostgreSQL freezes by itself; at about ten of
    /// them, with its usual settings, it stops taking writes.
    pub freeze_ages: f64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            tables_per_database: 40_000,
            databases_per_server: 300,
            connections_used: 0.8,
            transaction_s: 600.0,
            freeze_ages: 2.0,
        }
    }
}

/// A server with its figures.
#[derive(Clone, PartialEq, Debug)]
pub struct ServerLoad {
    /// The server's name.
    pub server: String,
    /// What was read, or why it could not be.
    pub found: Result<Figures, String>,
}

/// What was read of a server.
#[derive(Clone, PartialEq, Debug)]
pub struct Figures {
    /// The server's own.
    pub load: Load,
    /// The databases with many tenants, and how many tables each has.
    pub tables: Vec<(String, i64)>,
}

/// Something that is near its limit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Strain {
    /// What was found.
    pub found: String,
    /// What to do about it.
    pub mend: &'static str,
}

impl Ops {
    /// Reads how full every server is.
    ///
    /// # Errors
    /// See [`SafetyError`]. That a server can't be asked is no error but an answer.
    pub async fn server_loads(&self, authority: &Authority) -> Result<Vec<ServerLoad>, SafetyError> {
        authority.require_operator(OperatorScope::Read)?;
        let client = self.catalog().client().await?;
        let servers = server::list(&client).await?;
        let databases = tenant_database::list_ready(&client).await?;
        drop(client);
        let asked = servers.into_iter().map(|server| {
            let shared: Vec<&TenantDatabase> = databases
                .iter()
                .filter(|database| database.server == server.id && database.kind == DatabaseKind::Shared)
                .collect();
            async move {
                ServerLoad {
                    found: self
                        .figures(server.id, &shared)
                        .await
                        .map_err(|failure| failure.message()),
                    server: server.name,
                }
            }
        });
        Ok(stream::iter(asked).buffered(AT_ONCE).collect().await)
    }

    async fn figures(&self, server: ServerId, shared: &[&TenantDatabase]) -> Result<Figures, Failure> {
        let (admin, _) = administer(self, server).await?;
        let load = load::read(&admin.connect_maintenance().await?).await?;
        let mut tables = Vec::new();
        for database in shared {
            let client = admin.connect(&database.name).await?;
            tables.push((database.name.clone(), load::count_tables(&client).await?));
        }
        Ok(Figures { load, tables })
    }
}

impl Figures {
    /// What is near its limit.
    #[must_use]
    pub fn strains(&self, limits: &Limits) -> Vec<Strain> {
        let load = &self.load;
        let mut strains = Vec::new();
        let mut strain = |found: String, mend| strains.push(Strain { found, mend });
        for (database, tables) in &self.tables {
            if *tables > limits.tables_per_database {
                strain(
                    format!(
                        "{database} has {tables} tables, more than {}",
                        limits.tables_per_database
                    ),
                    "place new tenants with schemas of their own on another server, or in shared tables",
                );
            }
        }
        if load.databases > limits.databases_per_server {
            strain(
                format!(
                    "{} databases, more than {}",
                    load.databases, limits.databases_per_server
                ),
                "place new tenants with databases of their own on another server",
            );
        }
        let used = load.connections as f64 / load.connections_max.max(1) as f64;
        if used > limits.connections_used {
            strain(
                format!(
                    "{} of {} connections are in use",
                    load.connections, load.connections_max
                ),
                "find who holds them in pg_stat_activity, and give the pools a smaller budget or PostgreSQL a larger max_connections",
            );
        }
        if let Some(open) = load
            .transaction
            .as_ref()
            .filter(|open| open.seconds > limits.transaction_s)
        {
            strain(
                format!(
                    "a transaction of {} in {} is open for {:.0} s ({}, pid {})",
                    open.role, open.database, open.seconds, open.state, open.pid
                ),
                "end it: `select pg_terminate_backend(PID)`; set idle_in_transaction_session_timeout for that role",
            );
        }
        let age_max = load.freeze_max_age as f64 * limits.freeze_ages;
        if let Some((database, age)) = load.oldest.as_ref().filter(|(_, age)| *age as f64 > age_max) {
            strain(
                format!("the oldest row of {database} is {age} transactions old: autovacuum does not keep up"),
                "`vacuum (freeze)` there, and end what holds it up: long transactions, prepared ones, replication slots",
            );
        }
        strains
    }
}

#[cfg(test)]
mod tests {
    use tenantry_engine::load::OpenTransaction;

    use super::*;

    type Change = fn(&mut Figures);

    fn figures() -> Figures {
        Figures {
            load: Load {
                connections: 80,
                connections_max: 100,
                databases: 300,
                oldest: Some(("old".to_owned(), 400_000_000)),
                freeze_max_age: 200_000_000,
                transaction: Some(OpenTransaction {
                    pid: 7,
                    role: "app".to_owned(),
                    database: "shared".to_owned(),
                    state: "idle in transaction".to_owned(),
                    seconds: 600.0,
                }),
            },
            tables: vec![("shared".to_owned(), 40_000)],
        }
    }

    /// At the limit all is well; beyond it exactly the one thing is told.
    #[test]
    fn each_limit_warns_from_one_more_on() {
        assert_eq!(figures().strains(&Limits::default()), []);
        let beyond: [(Change, &str); 5] = [
            (|found| found.tables[0].1 += 1, "40001 tables"),
            (|found| found.load.databases += 1, "301 databases"),
            (|found| found.load.connections += 1, "81 of 100 connections"),
            (
                |found| {
                    if let Some(open) = &mut found.load.transaction {
                        open.seconds += 1.0;
                    }
                },
                "open for 601 s (idle in transaction, pid 7)",
            ),
            (
                |found| found.load.oldest = Some(("old".to_owned(), 400_000_001)),
                "400000001 transactions old",
            ),
        ];
        for (change, told) in beyond {
            let mut found = figures();
            change(&mut found);
            let strains = found.strains(&Limits::default());
            assert_eq!(strains.len(), 1, "{strains:?}");
            assert!(strains[0].found.contains(told), "{strains:?}");
        }
    }
}
