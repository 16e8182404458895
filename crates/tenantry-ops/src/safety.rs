//! Whether every tenant database may serve: asked when a server starts.

use std::collections::BTreeSet;

use futures_util::{StreamExt as _, stream};
use tenantry_catalog::{
    CatalogError, placement,
    tenant_database::{self, DatabaseState, TenantDatabase},
};
use tenantry_core::OperatorScope;
use tenantry_engine::{bootstrap::Incarnation, check};

use crate::{
    Authority, Forbidden, Ops,
    runner::{Failure, administer},
};

/// Databases asked at once: enough to hide the round trips, few enough for any server.
const AT_ONCE: usize = 8;

/// What was found in a tenant database.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DatabaseCheck {
    /// The server's name.
    pub server: String,
    /// The database's name.
    pub database: String,
    /// How it is.
    pub finding: DatabaseFinding,
    /// The other databases of the server that its application role may connect to: those where PUBLIC may.
    pub other_databases: Vec<String>,
}

/// How a tenant database is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DatabaseFinding {
    /// The application's role is held by row security.
    Safe,
    /// It could get past row security: the database may not serve. Names the role, each reason and its mend.
    Unsafe(String),
    /// It could not be asked; then the application can't reach it either.
    Unknown(String),
}

/// Why tenant databases were not checked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SafetyError {
    /// The authority does not allow it.
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
    /// The catalog failed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

impl Ops {
    /// Asks every tenant database whether its application role could get past row security, and whether it is the one that
    /// was made ready: one that was restored or cloned stands among the [outdated](Ops::outdated_databases) from now on.
    ///
    /// # Errors
    /// See [`SafetyError`].
    pub async fn check_databases(&self, authority: &Authority) -> Result<Vec<DatabaseCheck>, SafetyError> {
        authority.require_operator(OperatorScope::Read)?;
        let client = self.catalog().client().await?;
        let sites = placement::list_sites(&client).await?;
        drop(client);
        let mut seen = BTreeSet::new();
        let databases = sites
            .into_iter()
            .filter(|site| site.database.state == DatabaseState::Ready && seen.insert(site.database.id))
            .map(|site| (site.server, site.database));
        let checks = stream::iter(databases).map(|(server, database)| async move {
            let (finding, other_databases) = match self.check_database(&database).await {
                Ok(found) => found,
                Err(failure) => (DatabaseFinding::Unknown(failure.message()), Vec::new()),
            };
            DatabaseCheck {
                server,
                database: database.name,
                finding,
                other_databases,
            }
        });
        Ok(checks.buffered(AT_ONCE).collect().await)
    }

    async fn note_replaced(&self, database: &TenantDatabase, here: Incarnation) -> Result<(), CatalogError> {
        let made = (database.system_identifier, database.database_oid);
        if made == (Some(here.system_identifier), Some(here.database_oid)) {
            return Ok(());
        }
        let client = self.catalog().client().await?;
        tenant_database::set_replaced(&client, database.id).await
    }

    async fn check_database(&self, database: &TenantDatabase) -> Result<(DatabaseFinding, Vec<String>), Failure> {
        let (admin, _) = administer(self, database.server).await?;
        let connection = admin.connect(&database.name).await?;
        self.note_replaced(database, Incarnation::read(&connection).await?)
            .await?;
        let finding = match check::application_role(&connection, &database.app_role).await?.accept() {
            Ok(()) => DatabaseFinding::Safe,
            Err(refused) => DatabaseFinding::Unsafe(refused.to_string()),
        };
        let mut others = check::reachable_databases(&connection, &database.app_role).await?;
        others.retain(|other| *other != database.name);
        Ok((finding, others))
    }
}
