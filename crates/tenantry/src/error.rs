//! What a scoped call answers when it fails.

use std::{fmt, time::Duration};

use tenantry_core::Excess;
pub use tenantry_wire::DbError;

/// Why a scoped call failed: opaque, with a [kind](Error::kind) to act on.
///
/// `Display` is for logs. What may be shown to a caller is decided by the kind; PostgreSQL's detail can hold values.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    hint: Option<String>,
    retry_after: Option<Duration>,
    limit: Option<Box<Excess>>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// What kind of failure it was; also the label in metrics.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum ErrorKind {
    /// PostgreSQL refused the statement: [`Error::database`] says why.
    Database,
    /// The role of the context may not write.
    ReadOnlyRole,
    /// The statement does not belong on a scoped connection, and was not sent.
    Refused,
    /// A parameter does not fit the statement.
    Parameter,
    /// A column does not fit the Rust type.
    Column,
    /// `query_one` met no row, or more than one; `query_opt` more than one.
    RowCount,
    /// The statement, or the wait for a connection, took too long.
    Timeout,
    /// The SQL from outside gave more than [`PoolConfig::raw_result_bytes_max`](crate::PoolConfig) allows.
    ResultTooLarge,
    /// Too many callers wait for the tenant's database, or waited for too long.
    PoolFull,
    /// The tenant itself asks for more than its share: too many of its calls wait, or kept each other waiting.
    TenantBusy,
    /// The tenant has as much of something as its plan gives: [`Error::limit`] says of what.
    PlanLimit,
    /// There is no such tenant.
    TenantNotFound,
    /// The tenant is suspended.
    TenantSuspended,
    /// The tenant is being provisioned.
    TenantNotReady,
    /// The tenant's tables are older than what is required; others are served.
    TenantMigrating,
    /// The tenant is moving between placements.
    TenantMoving,
    /// The tenant's database or the catalog cannot be reached.
    Unavailable,
    /// The session was not bound as expected: a fault of ours, refused by PostgreSQL; the connection was closed.
    Context,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            hint: None,
            retry_after: None,
            limit: None,
            source: None,
        }
    }

    pub(crate) fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn plan_limit(excess: &Excess, hint: &'static str) -> Self {
        let Excess { limit, quota, used } = excess;
        let text = format!("the tenant has {used} of the {quota} {limit} that its plan gives");
        Self {
            limit: Some(Box::new(excess.clone())),
            ..Self::new(ErrorKind::PlanLimit, text).with_hint(hint)
        }
    }

    pub(crate) fn with_retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// What kind of failure it was.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// PostgreSQL's own error, if it is one.
    pub fn database(&self) -> Option<&DbError> {
        self.source
            .as_deref()?
            .downcast_ref::<tenantry_pool::Error>()?
            .database()
    }

    /// How to mend the statement, where we know better than PostgreSQL.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref().or_else(|| self.database()?.hint())
    }

    /// What the tenant has used up, if that is why.
    pub fn limit(&self) -> Option<&Excess> {
        self.limit.as_deref()
    }

    /// When it is worth trying again.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, "; {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
