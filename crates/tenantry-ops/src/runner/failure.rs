//! Why a step did not succeed, and what follows from it.

use tenantry_catalog::CatalogError;
use tokio_postgres::error::SqlState;

/// Why a step did not succeed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It may pass: the step is tried again after a pause.
    Retry(Reason),
    /// It won't: what was made is removed.
    Permanent(Reason),
    /// Another runner has taken over: this one writes nothing more.
    LeaseLost,
    /// Nothing failed, but the operation sleeps until then.
    Park(chrono::DateTime<chrono::Utc>),
}

/// What is recorded of a failure.
#[derive(Clone, Debug)]
pub(crate) struct Reason {
    pub(crate) code: &'static str,
    pub(crate) message: String,
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

    /// Of a statement on a tenant's server.
    pub(crate) fn database(what: &str, error: &tokio_postgres::Error) -> Self {
        let message = format!("{what}: {}", chain(error));
        match error.code() {
            // No answer, or no connection: the server may come back.
            None => Self::retry("server_unreachable", message),
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
