//! Tenant databases that an older Tenantry made ready, brought up to date before they are used.
//!
//! The catalog knows each one's version, so that a fleet that is up to date costs one query. Bringing one up to date is its
//! bootstrap once more: one transaction under the database's lock, which keeps rows, keys, password and fence. Two processes
//! may do it at once, and one that is killed leaves it done or not done; either way the next one finds out.

use std::collections::BTreeMap;

use futures_util::{StreamExt as _, stream};
use serde_json::json;
use tenantry_catalog::{
    CatalogError, change,
    tenant_database::{self, TenantDatabase},
};
use tenantry_core::{Change, OperatorScope, TENANT_DATABASE_VERSION, Tier};
use tenantry_engine::bootstrap::{self, BootstrapError, Credentials, DatabaseRequest};

use crate::{
    Authority, Forbidden, Ops,
    audit::{self, Act},
    failpoint,
    runner::{Failure, administer},
};

/// Servers worked on at once.
const SERVERS_AT_ONCE: usize = 8;
/// Databases of one server worked on at once; each takes one or two connections.
const AT_ONCE: usize = 2;

/// A tenant database with an older version than this program's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OutdatedDatabase {
    /// The server's name.
    pub server: String,
    /// The database's name.
    pub database: String,
    /// Its version; none of a database that was restored or cloned.
    pub version: Option<i32>,
}

/// What became of a tenant database that was out of date.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UpgradedDatabase {
    /// Which, with the version it had.
    pub was: OutdatedDatabase,
    /// Why it still has it.
    pub error: Option<String>,
    /// Whether that may pass by itself: its server can't be reached or is busy.
    pub may_pass: bool,
}

/// Why tenant databases were not brought up to date.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpgradeError {
    /// The authority does not allow it.
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
    /// A newer Tenantry uses one of them.
    #[error(
        "the tenant database `{database}` on `{server}` was made ready by a newer Tenantry (version {found}, this one knows \
         {TENANT_DATABASE_VERSION}): update this program"
    )]
    Newer {
        /// The server's name.
        server: String,
        /// The database's name.
        database: String,
        /// Its version.
        found: i32,
    },
    /// The catalog failed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

impl Ops {
    /// The tenant databases that this program has to bring up to date before it uses them, by one query of the catalog.
    ///
    /// # Errors
    /// See [`UpgradeError`]; [`UpgradeError::Newer`] where one is newer than the program.
    pub async fn outdated_databases(&self, authority: &Authority) -> Result<Vec<OutdatedDatabase>, UpgradeError> {
        authority.require_operator(OperatorScope::Read)?;
        Ok(self.outdated().await?.iter().map(shown).collect())
    }

    /// Brings them up to date: the functions, rights and settings of this program's bootstrap. Rows, keys and passwords stay.
    ///
    /// # Errors
    /// See [`UpgradeError`]; nothing is changed where one database is newer than the program. That a database can't be
    /// brought up to date stands in its answer.
    ///
    /// # Cancel safety
    /// What was done stays done; a database is done or as it was.
    pub async fn upgrade_databases(&self, authority: &Authority) -> Result<Vec<UpgradedDatabase>, UpgradeError> {
        authority.require_operator(OperatorScope::Migrations)?;
        let mut servers: BTreeMap<String, Vec<TenantDatabase>> = BTreeMap::new();
        for (server, database) in self.outdated().await? {
            servers.entry(server).or_default().push(database);
        }
        let answers: Vec<_> = stream::iter(servers)
            .map(|(server, databases)| self.upgrade_server(authority, server, databases))
            .buffered(SERVERS_AT_ONCE)
            .collect()
            .await;
        Ok(answers.into_iter().flatten().collect())
    }

    async fn outdated(&self) -> Result<Vec<(String, TenantDatabase)>, UpgradeError> {
        let client = self.catalog().client().await?;
        let others = tenant_database::list_of_other_versions(&client, TENANT_DATABASE_VERSION).await?;
        for (server, database) in &others {
            if let Some(found) = database
                .bootstrap_version
                .filter(|found| *found > TENANT_DATABASE_VERSION)
            {
                return Err(UpgradeError::Newer {
                    server: server.clone(),
                    database: database.name.clone(),
                    found,
                });
            }
        }
        Ok(others)
    }

    async fn upgrade_server(
        &self,
        authority: &Authority,
        server: String,
        databases: Vec<TenantDatabase>,
    ) -> Vec<UpgradedDatabase> {
        stream::iter(databases)
            .map(|database| {
                let was = shown(&(server.clone(), database.clone()));
                async move {
                    let done = bring_up_to_date(self, authority, &database).await;
                    answer(was, done)
                }
            })
            .buffered(AT_ONCE)
            .collect()
            .await
    }
}

fn shown((server, database): &(String, TenantDatabase)) -> OutdatedDatabase {
    OutdatedDatabase {
        server: server.clone(),
        database: database.name.clone(),
        version: database.bootstrap_version,
    }
}

fn answer(was: OutdatedDatabase, done: Result<(), Failure>) -> UpgradedDatabase {
    let (server, database) = (&was.server, &was.database);
    match done {
        Ok(()) => {
            tracing::info!(
                server,
                database,
                version = TENANT_DATABASE_VERSION,
                "a tenant database was brought up to date"
            );
            UpgradedDatabase {
                was,
                error: None,
                may_pass: false,
            }
        }
        Err(failure) => {
            let may_pass = matches!(failure, Failure::Retry(_));
            let error = failure.message();
            tracing::warn!(
                server,
                database,
                error,
                "a tenant database could not be brought up to date"
            );
            UpgradedDatabase {
                was,
                error: Some(error),
                may_pass,
            }
        }
    }
}

/// Refuses to work in a database whose functions are not those of this program.
pub(crate) fn require_current(database: &TenantDatabase) -> Result<(), Failure> {
    const THIS: i32 = TENANT_DATABASE_VERSION;
    let name = &database.name;
    match database.bootstrap_version {
        Some(THIS) => Ok(()),
        Some(newer) if newer > THIS => Err(Failure::retry(
            "database_newer",
            format!(
                "`{name}` was made ready by a newer Tenantry (version {newer}, this one knows {THIS}): update this program"
            ),
        )),
        _ => Err(Failure::retry(
            "database_outdated",
            format!(
                "`{name}` was made ready by an older Tenantry, or restored: `tenantry migrate apply` brings it up to date"
            ),
        )),
    }
}

/// One bootstrap more, and the catalog's word for it. A database that serves keeps its tier, and what was hardened by hand
/// stays as it is.
pub(crate) async fn bring_up_to_date(
    ops: &Ops,
    authority: &Authority,
    database: &TenantDatabase,
) -> Result<(), Failure> {
    let patience = ops.fleet().patience_per_try;
    match tokio::time::timeout(patience, attempt(ops, authority, database)).await {
        Ok(done) => done,
        Err(_) => Err(Failure::retry(
            "server_unreachable",
            format!("no answer within {} s", patience.as_secs()),
        )),
    }
}

async fn attempt(ops: &Ops, authority: &Authority, database: &TenantDatabase) -> Result<(), Failure> {
    let (admin, administration) = administer(ops, database.server).await?;
    let client = ops.catalog().client().await?;
    let secrets = tenant_database::secrets(ops.catalog(), &client, database.id).await?;
    drop(client);
    let key = secrets.keys.first().cloned();
    let key = key.ok_or_else(|| Failure::permanent("no_key", "the tenant database has no key in the catalog"))?;
    let installation = ops.catalog().installation();
    bootstrap::server(&admin, installation, Some(&administration.mover_password)).await?;
    let request = DatabaseRequest {
        installation,
        database: database.id,
        name: &database.name,
        credentials: Some(Credentials {
            app_password: secrets.app_password,
            key: key.clone(),
        }),
        force_signed: database.tier == Some(Tier::Signed),
    };
    let made = match bootstrap::database(&admin, &request).await {
        // Another process of a newer Tenantry was faster; its word will stand in the catalog.
        Err(error @ BootstrapError::Newer { .. }) => {
            return Err(Failure::permanent("database_newer", error.to_string()));
        }
        made => made?,
    };
    failpoint::pass("upgrade.before_record").await?;
    let mut client = ops.catalog().client().await?;
    let transaction = client.transaction().await?;
    if made.was_copy {
        tenant_database::set_keys(ops.catalog(), &transaction, database.id, &[made.key]).await?;
    }
    let found = tenant_database::Bootstrapped {
        tier: made.tier,
        version: made.version,
        system_identifier: made.system_identifier,
        database_oid: made.database_oid,
    };
    tenant_database::set_bootstrapped(&transaction, database.id, found).await?;
    change::announce(&transaction, Change::Servers).await?;
    let act = Act {
        action: "database.upgrade",
        tenant: None,
        target: database.name.clone(),
        before: Some(json!({ "version": database.bootstrap_version })),
        after: Some(json!({ "version": made.version })),
    };
    audit::record(&transaction, authority, act).await?;
    Ok(transaction.commit().await?)
}
