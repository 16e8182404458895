//! The catalog's copy of the ledgers, made equal to them.

use std::collections::HashMap;

use futures_util::{StreamExt as _, stream};
use tenantry_catalog::{
    change,
    fleet_state::{self, Correction},
    server,
    tenant_database::{self, TenantDatabase},
};
use tenantry_core::{Change, OperatorScope};
use tenantry_engine::{home, migrate};

use super::{
    MigrationError,
    answers::{FleetAnswers, in_time},
};
use crate::{Authority, Ops, runner::Failure};

/// Databases that are asked at the same time.
const AT_ONCE: usize = 8;

/// So many corrections of one database are told one by one.
const TOLD_MAX: usize = 100;

/// What one tenant database said of its ledgers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reconciled {
    /// The server's name.
    pub server: String,
    /// The database's name.
    pub database: String,
    /// How many rows of the catalog's copy were wrong; they are right now.
    pub corrected: u64,
    /// Which these were; a hundred of them at most.
    pub corrections: Vec<Correction>,
    /// Why it could not be asked.
    pub error: Option<String>,
}

impl Reconciled {
    /// Whether there is something to say of it.
    #[must_use]
    pub fn is_news(&self) -> bool {
        self.corrected > 0 || self.error.is_some()
    }
}

impl Ops {
    /// Reads the ledgers of every tenant database, by one query each, and corrects the catalog's copy: for after a
    /// restore, or when somebody has worked by hand. Forgets the failures of schemas that lack nothing.
    ///
    /// # Errors
    /// See [`MigrationError`]; a database that can't be asked stands in its line. A server that does not answer three connections in a row is
    /// asked no more.
    ///
    /// # Cancel safety
    /// What was corrected stays so; asked again, it goes on with the rest.
    pub async fn reconcile_migrations(&self, authority: &Authority) -> Result<Vec<Reconciled>, MigrationError> {
        authority.require_operator(OperatorScope::Migrations)?;
        let client = self.catalog().client().await?;
        let servers = server::list(&client).await?;
        let databases = tenant_database::list_ready(&client).await?;
        drop(client);
        let names: HashMap<_, _> = servers.into_iter().map(|server| (server.id, server.name)).collect();
        let answers = &FleetAnswers::of(&databases);
        let asked = databases.into_iter().map(|database| {
            let server = names.get(&database.server).cloned().unwrap_or_default();
            async move {
                let (mut corrections, error) = match self.reconcile(answers, &database).await {
                    Ok(corrections) => (corrections, None),
                    Err(failure) => (Vec::new(), Some(failure.message())),
                };
                let corrected = corrections.len() as u64;
                corrections.truncate(TOLD_MAX);
                Reconciled {
                    server,
                    database: database.name,
                    corrected,
                    corrections,
                    error,
                }
            }
        });
        let reconciled: Vec<_> = stream::iter(asked).buffered(AT_ONCE).collect().await;
        self.forget_settled().await?;
        Ok(reconciled)
    }

    /// Failures at schemas that lack nothing by now. Where the files can't be worked out, nobody can tell which these are.
    async fn forget_settled(&self) -> Result<(), MigrationError> {
        let derived = match self.derive_migrations().await {
            Ok(Some(derived)) => derived,
            Ok(None) | Err(MigrationError::Refused(_) | MigrationError::NoServer | MigrationError::Server(_)) => {
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let all = self.fleet_state(&derived).await?;
        let overlays = match self.overlays(&all).await {
            Ok(overlays) => overlays,
            Err(MigrationError::SharedOverlay(_) | MigrationError::Server(_)) => return Ok(()),
            Err(error) => return Err(error),
        };
        Ok(self.forget_failures(&all, &derived, &overlays).await?)
    }

    async fn reconcile(&self, answers: &FleetAnswers, database: &TenantDatabase) -> Result<Vec<Correction>, Failure> {
        let connection = answers.connect(self, database).await?;
        let client = self.catalog().client().await?;
        let read_at = fleet_state::now(&client).await?;
        drop(client);
        let read = async {
            let read = migrate::read_all(&connection).await;
            read.map_err(|error| Failure::database("read the ledgers", &error))
        };
        let mut ledger = in_time(self, read).await?;
        // A spare is nobody's placement.
        ledger.retain(|(schema, ..)| !schema.starts_with(home::SPARE_PREFIX));
        let client = self.catalog().client().await?;
        let corrections = fleet_state::reconcile(&client, database.id, &ledger, read_at).await?;
        if !corrections.is_empty() {
            change::announce(&client, Change::Servers).await?;
        }
        Ok(corrections)
    }
}
