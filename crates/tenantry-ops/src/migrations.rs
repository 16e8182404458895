//! The application's migrations over the whole fleet: each schema in a transaction of its own, one failure stopping
//! nobody else.

use tenantry_catalog::CatalogError;
use tenantry_core::TenantId;

use crate::Forbidden;

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
    /// The versions it lacks.
    pub pending: Vec<i64>,
    /// Why it could not be migrated or asked: a straggler.
    pub error: Option<String>,
}

/// What a run over the fleet did.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MigrationReport {
    /// The newest version there is.
    pub target: i64,
    /// How many schemas were brought to it.
    pub applied: usize,
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
