//! Why a server or database could not be made ready.

use crate::{admin::AdminError, sql_error::SqlError};

/// Why a server or database could not be made ready.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BootstrapError {
    /// The server can't be reached.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// A statement failed.
    #[error(transparent)]
    Sql(#[from] SqlError),
    /// The server is too old.
    #[error("the server runs PostgreSQL {0}: 15 or newer is needed")]
    TooOld(String),
    /// The installation's roles are not on the server.
    #[error("the server has no role `{0}`: bootstrap the server first")]
    ServerNotReady(String),
    /// Somebody else's.
    #[error("the database `{database}` belongs to another installation of Tenantry ({owner}): use another database")]
    AnotherInstallation {
        /// The database.
        database: String,
        /// Whose it is.
        owner: String,
    },
    /// A schema with one of our names that we did not make.
    #[error(
        "the database `{database}` has a schema `{schema}` that Tenantry did not make: rename it or use another database"
    )]
    SchemaTaken {
        /// The database.
        database: String,
        /// The schema.
        schema: &'static str,
    },
    /// Hardening knows no such group.
    #[error("there is no group `{0}` of hardening: `docs/hardening.md` names them")]
    UnknownGroup(String),
    /// Made by a newer Tenantry.
    #[error(
        "the database `{database}` was made ready by a newer Tenantry (version {found}, this one knows {known}): update this program"
    )]
    Newer {
        /// The database.
        database: String,
        /// Its version.
        found: i32,
        /// Ours.
        known: i32,
    },
    /// The administrator may not do what is needed.
    #[error("the administrator `{admin}` may not {what}: {mend}")]
    NotAllowed {
        /// The role.
        admin: String,
        /// What it may not.
        what: &'static str,
        /// What to do.
        mend: &'static str,
    },
    /// The application role could bypass row security.
    #[error(transparent)]
    Refused(#[from] crate::check::Refused),
    /// A name made from an id is always short enough; one from outside may not be.
    #[error(transparent)]
    Name(#[from] tenantry_sql::IdentifierError),
}
