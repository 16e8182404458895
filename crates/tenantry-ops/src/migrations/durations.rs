//! How long each migration took, as the ledgers beside the tables tell: the catalog's copy says only that it is there.

use std::collections::HashMap;

use futures_util::{StreamExt as _, stream};
use tenantry_catalog::{
    server,
    tenant_database::{self, TenantDatabase},
};
use tenantry_core::OperatorScope;
use tenantry_engine::{home, migrate};

pub use tenantry_engine::migrate::TimedVersion;

use super::{
    MigrationError, SiteStatus,
    answers::{FleetAnswers, in_time},
};
use crate::{Authority, Ops, runner::Failure};

/// Databases that are asked at the same time.
const AT_ONCE: usize = 8;

/// The ledgers of one tenant database.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DatabaseLedgers {
    /// The server's name.
    pub server: String,
    /// The database's name.
    pub database: String,
    /// Every migration of every schema there, or why it could not be asked.
    pub found: Result<Vec<TimedVersion>, String>,
}

impl Ops {
    /// Reads from every tenant database, by one query each, which migrations its schemas have and how long each took. That one can't be
    /// asked is no error but an answer; a server that does not answer three connections in a row is asked no more.
    ///
    /// # Errors
    /// See [`MigrationError`].
    ///
    /// # Cancel safety
    /// It only reads.
    pub async fn migration_durations(&self, authority: &Authority) -> Result<Vec<DatabaseLedgers>, MigrationError> {
        self.ask_durations(authority, None).await
    }

    /// The same of these schemas only: no other database is asked.
    ///
    /// # Errors
    /// See [`MigrationError`].
    ///
    /// # Cancel safety
    /// It only reads.
    pub async fn migration_durations_of(
        &self,
        authority: &Authority,
        sites: &[SiteStatus],
    ) -> Result<Vec<DatabaseLedgers>, MigrationError> {
        self.ask_durations(authority, Some(sites)).await
    }

    async fn ask_durations(
        &self,
        authority: &Authority,
        sites: Option<&[SiteStatus]>,
    ) -> Result<Vec<DatabaseLedgers>, MigrationError> {
        authority.require_operator(OperatorScope::Read)?;
        let client = self.catalog().client().await?;
        let servers = server::list(&client).await?;
        let databases = tenant_database::list_ready(&client).await?;
        drop(client);
        let names: HashMap<_, _> = servers.into_iter().map(|server| (server.id, server.name)).collect();
        let answers = &FleetAnswers::of(&databases);
        let asked = databases.into_iter().filter_map(|database| {
            let server = names.get(&database.server).cloned().unwrap_or_default();
            let schemas = sites.map(|sites| schemas_in(sites, &server, &database.name));
            if schemas.as_ref().is_some_and(Vec::is_empty) {
                return None;
            }
            Some(async move {
                let found = self.ledgers(answers, &database, schemas.as_deref()).await;
                DatabaseLedgers {
                    server,
                    database: database.name,
                    found: found.map_err(|failure| failure.message()),
                }
            })
        });
        Ok(stream::iter(asked).buffered(AT_ONCE).collect().await)
    }

    /// `None` for all schemas that there are.
    async fn ledgers(
        &self,
        answers: &FleetAnswers,
        database: &TenantDatabase,
        schemas: Option<&[String]>,
    ) -> Result<Vec<TimedVersion>, Failure> {
        let connection = answers.connect(self, database).await?;
        let read = async {
            let read = migrate::read_timed(&connection, schemas).await;
            read.map_err(|error| Failure::database("read the ledgers", &error))
        };
        let mut ledgers = in_time(self, read).await?;
        // A spare is nobody's placement.
        ledgers.retain(|row| !row.schema.starts_with(home::SPARE_PREFIX));
        Ok(ledgers)
    }
}

/// Those of these schemas that are in a database.
fn schemas_in(sites: &[SiteStatus], server: &str, database: &str) -> Vec<String> {
    let there = sites
        .iter()
        .filter(|site| site.server == server && site.database == database);
    there.map(|site| site.schema.clone()).collect()
}
