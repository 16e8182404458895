//! The application's migrations over the whole fleet: each schema in transactions of its own, one failure stopping
//! nobody else.

use serde_json::json;
use tenantry_catalog::{
    CatalogError, app_migration,
    app_migration::SiteKey,
    placement::{self, Site},
};
use tenantry_core::{OperatorScope, TenantId};
use tenantry_engine::{
    isolate::Derived,
    migrate::{self, AppliedVersion, ByAdministrator},
};

use crate::{
    Authority, Forbidden, Ops,
    audit::{self, Act},
    runner::{Failure, administer, record_versions, target},
};

/// A schema with the application's tables, and how far it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SiteStatus {
    /// The server's name.
    pub server: String,
    /// The database's name.
    pub database: String,
    /// The schema.
    pub schema: String,
    /// The tenant it belongs to, unless its tables are shared.
    pub tenant: Option<TenantId>,
    /// That tenant's slug.
    pub slug: Option<String>,
    /// The newest version it has; 0 for none.
    pub version: i64,
    /// The names of the migrations it lacks.
    pub pending: Vec<String>,
    /// Why it could not be migrated or asked: a straggler.
    pub error: Option<String>,
}

/// What a run over the fleet did.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MigrationReport {
    /// The newest version there is; 0 for none.
    pub target: i64,
    /// Which schemas were brought to it.
    pub applied: Vec<SiteStatus>,
    /// How many had it already.
    pub current: usize,
    /// Which stayed behind, with the reason.
    pub failed: Vec<SiteStatus>,
}

/// Why a run over the fleet did not begin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MigrationError {
    /// The authority does not allow it.
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
    /// No application's migrations are configured.
    #[error("no migrations are configured: name the folder that holds them")]
    NoMigrations,
    /// A migration is refused, with the file, the line, the reason and the mend.
    #[error("{0}")]
    Refused(String),
    /// There is no server to try them on.
    #[error("there is no server yet: add one")]
    NoServer,
    /// The server that they are tried on can't be used.
    #[error("the migrations can't be tried: {0}")]
    Server(String),
    /// The catalog failed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

impl From<tokio_postgres::Error> for MigrationError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Catalog(error.into())
    }
}

impl Ops {
    /// Brings every schema of the fleet to the newest version. A schema that fails stays as it was and is listed; the
    /// others go on. Running it again goes on where something was left.
    ///
    /// # Errors
    /// See [`MigrationError`]; what failed at single schemas stands in the report.
    ///
    /// # Cancel safety
    /// Schemas that were done stay done.
    pub async fn apply_migrations(&self, authority: &Authority) -> Result<MigrationReport, MigrationError> {
        authority.require_operator(OperatorScope::Migrations)?;
        let derived = self.derive_migrations().await?.ok_or(MigrationError::NoMigrations)?;
        let mut report = MigrationReport {
            target: newest(&derived),
            ..MigrationReport::default()
        };
        for site in self.sites().await? {
            match self.apply_at(&site, &derived).await {
                Ok(versions) if versions.is_empty() => report.current += 1,
                Ok(_) => report.applied.push(status_of(&site, report.target, Vec::new(), None)),
                Err(failure) => {
                    let message = failure.message();
                    tracing::error!(
                        server = site.server,
                        database = site.database.name,
                        schema = site.schema,
                        error = message,
                        "a schema could not be migrated"
                    );
                    self.note_failure(&site, report.target, &message).await?;
                    report.failed.push(self.status_at(&site, &derived, Some(message)).await);
                }
            }
        }
        self.note_run(authority, &report).await?;
        Ok(report)
    }

    /// How far every schema of the fleet is, read from its own ledger.
    ///
    /// # Errors
    /// See [`MigrationError`]; a database that can't be asked stands in its line.
    pub async fn migration_status(&self, authority: &Authority) -> Result<Vec<SiteStatus>, MigrationError> {
        authority.require_operator(OperatorScope::Read)?;
        let derived = self.derive_migrations().await?.ok_or(MigrationError::NoMigrations)?;
        let client = self.catalog().client().await?;
        let failures = app_migration::failures(&client).await?;
        drop(client);
        let mut all = Vec::new();
        for site in self.sites().await? {
            let failed = failures
                .iter()
                .find(|failure| failure.database == site.database.id && failure.schema == site.schema)
                .map(|failure| failure.error.clone());
            all.push(self.status_at(&site, &derived, failed).await);
        }
        Ok(all)
    }

    async fn sites(&self) -> Result<Vec<Site>, CatalogError> {
        let client = self.catalog().client().await?;
        placement::list_sites(&client).await
    }

    async fn apply_at(&self, site: &Site, derived: &Derived) -> Result<Vec<i64>, Failure> {
        let client = self.catalog().client().await?;
        let tenants = placement::list_tenants(&client, site.database.id, &site.schema).await?;
        drop(client);
        let ids: Vec<_> = tenants.iter().map(|(tenant, _)| *tenant).collect();
        let (admin, _) = administer(self, site.database.server).await?;
        let connection = admin.connect(&site.database.name).await?;
        let target = target(self.catalog().installation(), &site.database, &site.schema)?;
        let patience = &self.fleet().patience;
        let applied = migrate::apply(&connection, &target, derived, &ids, &ByAdministrator, patience).await?;
        record_versions(self, &site.database, &site.schema, derived).await?;
        Ok(applied.versions)
    }

    async fn status_at(&self, site: &Site, derived: &Derived, failed: Option<String>) -> SiteStatus {
        let read = async {
            let (admin, _) = administer(self, site.database.server).await?;
            let connection = admin.connect(&site.database.name).await?;
            let target = target(self.catalog().installation(), &site.database, &site.schema)?;
            Ok::<_, Failure>(migrate::status(&connection, &target, derived).await?)
        };
        match read.await {
            Ok(status) => {
                let version = status
                    .applied
                    .last()
                    .map_or(0, |applied: &AppliedVersion| applied.version);
                let failed = failed.filter(|_| !status.pending.is_empty());
                status_of(site, version, status.pending, failed)
            }
            Err(failure) => status_of(site, 0, Vec::new(), Some(failed.unwrap_or_else(|| failure.message()))),
        }
    }

    async fn note_failure(&self, site: &Site, version: i64, message: &str) -> Result<(), CatalogError> {
        let client = self.catalog().client().await?;
        let key = SiteKey {
            database: site.database.id,
            schema: &site.schema,
        };
        app_migration::record_failure(&client, key, version, message).await
    }

    async fn note_run(&self, authority: &Authority, report: &MigrationReport) -> Result<(), MigrationError> {
        if report.applied.is_empty() && report.failed.is_empty() {
            return Ok(());
        }
        let mut client = self.catalog().client().await?;
        let transaction = client.transaction().await?;
        let act = Act {
            action: "migration.apply",
            tenant: None,
            target: report.target.to_string(),
            before: None,
            after: Some(json!({ "applied": report.applied.len(), "failed": report.failed.len() })),
        };
        audit::record(&transaction, authority, act).await?;
        Ok(transaction.commit().await?)
    }
}

fn newest(derived: &Derived) -> i64 {
    derived.versions.last().map_or(0, |version| version.version)
}

fn status_of(site: &Site, version: i64, pending: Vec<String>, error: Option<String>) -> SiteStatus {
    SiteStatus {
        server: site.server.clone(),
        database: site.database.name.clone(),
        schema: site.schema.clone(),
        tenant: site.tenant,
        slug: site.slug.clone(),
        version,
        pending,
        error,
    }
}
