//! Why a step did not succeed, and what follows from it.

use tenantry_catalog::CatalogError;
use tenantry_engine::{
    SqlError, admin::AdminError, archive::ArchiveError, audit::AuditError, bootstrap::BootstrapError, home::HomeError,
    migrate::ApplyError,
};
use tokio_postgres::error::SqlState;

/// The code of a failure to reach a server, which may come back.
pub(crate) const UNREACHABLE: &str = "server_unreachable";

/// The code of a failure for want of a migration that a tenant database has and this process has not: one that was deployed since
/// has it, and goes on.
pub(crate) const NEWER_FILES: &str = "migrations_newer";

/// The code of a migration that was edited after it had been applied.
pub(crate) const EDITED: &str = "migration_edited";

/// Why a step did not succeed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It may pass: the step is tried again after a pause.
    Retry(Reason),
    /// It won't: what was made is removed.
    Permanent(Reason),
    /// Another runner has taken over: this one writes nothing more.
    LeaseLost,
    /// Nothing failed: the operation was put to sleep.
    Parked,
}

/// What is recorded of a failure.
#[derive(Clone, Debug)]
pub(crate) struct Reason {
    pub(crate) code: &'static str,
    pub(crate) message: String,
}

impl Reason {
    /// Somebody or something is in the way who goes away by itself: nothing is wrong with what is done.
    pub(crate) fn is_in_the_way(&self) -> bool {
        matches!(
            self.code,
            "server_busy" | "tenant_in_use" | "replica_behind" | "replica_unreachable"
        )
    }
}

impl Failure {
    pub(crate) fn retry(code: &'static str, message: impl Into<String>) -> Self {
        Self::Retry(Reason {
            code,
            message: message.into(),
        })
    }

    pub(crate) fn permanent(code: &'static str, message: impl Into<String>) -> Self {
        Self::Permanent(Reason {
            code,
            message: message.into(),
        })
    }

    /// Whether it was recorded under this code.
    pub(crate) fn has_code(&self, code: &str) -> bool {
        matches!(self, Self::Retry(reason) | Self::Permanent(reason) if reason.code == code)
    }

    /// The sentence for operators.
    pub(crate) fn message(self) -> String {
        match self {
            Self::Retry(reason) | Self::Permanent(reason) => reason.message,
            Self::LeaseLost => "another process has taken over".to_owned(),
            Self::Parked => "it waits for its time".to_owned(),
        }
    }

    /// Of a statement on a tenant's server.
    pub(crate) fn database(what: &str, error: &tokio_postgres::Error) -> Self {
        let message = format!("{what}: {}", chain(error));
        match error.code() {
            // No answer, or no connection: the server may come back.
            None => Self::retry(UNREACHABLE, message),
            Some(code) if may_pass(code) => Self::retry("server_busy", message),
            Some(_) => Self::permanent("server_refused", message),
        }
    }
}

/// Whether the server may accept the same statement later.
pub(crate) fn may_pass(code: &SqlState) -> bool {
    const PASSING: [SqlState; 8] = [
        SqlState::T_R_SERIALIZATION_FAILURE,
        SqlState::T_R_DEADLOCK_DETECTED,
        SqlState::LOCK_NOT_AVAILABLE,
        SqlState::QUERY_CANCELED,
        SqlState::ADMIN_SHUTDOWN,
        SqlState::CRASH_SHUTDOWN,
        SqlState::CANNOT_CONNECT_NOW,
        SqlState::OBJECT_IN_USE,
    ];
    let class = &code.code()[..2];
    // 08: connection; 53: disk, memory, connections; 58: the server's own files (a full disk shows so as well).
    PASSING.contains(code) || matches!(class, "08" | "53" | "58")
}

impl From<CatalogError> for Failure {
    fn from(error: CatalogError) -> Self {
        let message = chain(&error);
        // Even an error of the catalog that does not pass by itself is no reason to undo work on a tenant's server: the
        // undo needs the catalog too.
        Self::retry("catalog", message)
    }
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        CatalogError::from(error).into()
    }
}

impl From<AdminError> for Failure {
    fn from(error: AdminError) -> Self {
        // Whatever it is, an operator can mend it: a server that is down, a password that was changed.
        Self::retry(UNREACHABLE, error.to_string())
    }
}

impl From<SqlError> for Failure {
    fn from(error: SqlError) -> Self {
        match error.source.code() {
            None => Self::retry(UNREACHABLE, chain(&error)),
            Some(code) if may_pass(code) => Self::retry("server_busy", error.to_string()),
            Some(_) => Self::permanent("server_refused", error.to_string()),
        }
    }
}

impl From<ArchiveError> for Failure {
    fn from(error: ArchiveError) -> Self {
        match error {
            ArchiveError::Sql(error) => error.into(),
            ArchiveError::Moved | ArchiveError::Changing(_) => Self::retry("tenant_moving", error.to_string()),
            other => Self::permanent("archive_refused", other.to_string()),
        }
    }
}

impl From<AuditError> for Failure {
    fn from(error: AuditError) -> Self {
        match error {
            AuditError::Sql(error) => error.into(),
            other => Self::permanent("audit_failed", other.to_string()),
        }
    }
}

impl From<HomeError> for Failure {
    fn from(error: HomeError) -> Self {
        match error {
            HomeError::Admin(error) => error.into(),
            HomeError::Sql(error) => error.into(),
            HomeError::NotOurs { .. } => Self::permanent("not_ours", error.to_string()),
            other => Self::permanent("server_refused", other.to_string()),
        }
    }
}

impl From<BootstrapError> for Failure {
    fn from(error: BootstrapError) -> Self {
        match error {
            BootstrapError::Admin(error) => error.into(),
            BootstrapError::Sql(error) => error.into(),
            other => Self::permanent("server_refused", other.to_string()),
        }
    }
}

impl From<ApplyError> for Failure {
    fn from(error: ApplyError) -> Self {
        match &error {
            ApplyError::Database(cause) => Self::database("migrate", cause),
            ApplyError::Locked { .. } | ApplyError::Busy(_) | ApplyError::Arriving(_) => {
                Self::retry("migration_busy", error.to_string())
            }
            ApplyError::Tenants(_) => Self::retry("catalog", chain(&error)),
            ApplyError::Edited { .. } => Self::permanent(EDITED, error.to_string()),
            ApplyError::Unknown { .. } => Self::retry(NEWER_FILES, error.to_string()),
            _ => Self::permanent("migration_failed", error.to_string()),
        }
    }
}

/// An error with its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
