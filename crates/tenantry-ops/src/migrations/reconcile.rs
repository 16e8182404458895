//! The catalog's copy of the ledgers, made equal to them.

use futures_util::{StreamExt as _, stream};
use tenantry_catalog::{
    change, fleet_state,
    tenant_database::{self, TenantDatabase},
};
use tenantry_core::{Change, OperatorScope};
use tenantry_engine::{home, migrate};

use super::MigrationError;
use crate::{
    Authority, Ops,
    runner::{Failure, administer},
};

/// Databases that are asked at the same time.
const AT_ONCE: usize = 8;

/// What one tenant database said of its ledgers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reconciled {
    /// The database's name.
    pub database: String,
    /// How many rows of the catalog's copy were wrong; they are right now.
    pub corrected: u64,
    /// Why it could not be asked.
    pub error: Option<String>,
}

impl Ops {
    /// Reads the ledgers of every tenant database, by one query each, and corrects the catalog's copy: for after a
    /// restore, or when somebody has worked by hand. Forgets the failures of schemas that lack nothing.
    ///
    /// # Errors
    /// See [`MigrationError`]; a database that can't be asked stands in its line.
    pub async fn reconcile_migrations(&self, authority: &Authority) -> Result<Vec<Reconciled>, MigrationError> {
        authority.require_operator(OperatorScope::Migrations)?;
        let client = self.catalog().client().await?;
        let databases = tenant_database::list_ready(&client).await?;
        drop(client);
        let asked = stream::iter(databases).map(|database| async move {
            let corrected = self.reconcile(&database).await;
            let (corrected, error) = match corrected {
                Ok(corrected) => (corrected, None),
                Err(failure) => (0, Some(failure.message())),
            };
            Reconciled {
                database: database.name,
                corrected,
                error,
            }
        });
        let reconciled: Vec<_> = asked.buffered(AT_ONCE).collect().await;
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

    async fn reconcile(&self, database: &TenantDatabase) -> Result<u64, Failure> {
        let (admin, _) = administer(self, database.server).await?;
        let connection = admin.connect(&database.name).await?;
        let client = self.catalog().client().await?;
        let read_at = fleet_state::now(&client).await?;
        drop(client);
        let mut ledger = migrate::read_all(&connection).await?;
        // A spare is nobody's placement.
        ledger.retain(|(schema, ..)| !schema.starts_with(home::SPARE_PREFIX));
        let client = self.catalog().client().await?;
        let corrected = fleet_state::reconcile(&client, database.id, &ledger, read_at).await?;
        if corrected > 0 {
            change::announce(&client, Change::Servers).await?;
        }
        Ok(corrected)
    }
}
