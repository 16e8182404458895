//! Why a call by way of the pool failed.

use std::{sync::Arc, time::Duration};

use crate::LocateError;

/// Why a call by way of the pool failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The statement failed, or its connection did.
    #[error(transparent)]
    Statement(tenantry_wire::Error),
    /// No connection could be opened. Shared by all who waited for it.
    #[error("the tenant's database cannot be reached: {0}")]
    Connect(Arc<tenantry_wire::Error>),
    /// The database is not the one that its key was made for: restored or cloned. It must get new keys first.
    #[error("the tenant database is a copy or was restored: give it new keys before it serves")]
    Incarnation,
    /// What was reached as a replica takes writes of its own: it was promoted, or never was one.
    #[error("the replica is no standby of the tenant's server")]
    NotStandby,
    /// The tenant has no home to go to.
    #[error(transparent)]
    Locate(#[from] LocateError),
    /// The tenant is moving, and the move did not end while the caller waited.
    #[error("the tenant is moving")]
    Moving,
    /// The statement ran longer than it may.
    #[error("the statement took longer than {} ms and was stopped", .0.as_millis())]
    StatementTimeout(Duration),
    /// All connections stayed in use.
    #[error("no connection became free within {} ms", .0.as_millis())]
    WaitTimeout(Duration),
    /// Too many callers wait already.
    #[error("{0} callers wait for this tenant database already")]
    Full(usize),
    /// Too many of the tenant's own callers wait already.
    #[error("{0} callers of this tenant wait already")]
    TenantFull(usize),
    /// The tenant's own calls kept all the connections in use that it may have.
    #[error("the tenant's own calls kept its connections in use for {} ms", .0.as_millis())]
    TenantBusy(Duration),
    /// The transaction lasted longer than it may, and was ended.
    #[error("the transaction took longer than {} ms and was ended", .0.as_millis())]
    TransactionTimeout(Duration),
    /// The tenant database is reached by another address or password now: the call is worth another try.
    #[error("the tenant database is reached in another way now")]
    Readdressed,
    /// A pooler in transaction mode stands before the server, and this needs a session of its own.
    #[error("the server is reached by a pooler in transaction mode, which has no sessions for this")]
    NeedsSession,
    /// The session was not bound as expected, or its token was rejected; the connection was closed.
    #[error("the session could not be bound to its tenant: {0}")]
    Context(tenantry_wire::Error),
}

impl Error {
    /// The same once more, for another of those who waited for a connection that could not be opened.
    pub(crate) fn again(&self) -> Self {
        match self {
            Self::Connect(error) => Self::Connect(error.clone()),
            Self::NotStandby => Self::NotStandby,
            _ => Self::Incarnation,
        }
    }

    /// Whether the server did not let the role in, or could not be reached where it should be: the catalog may know better by now.
    pub(crate) fn is_about_the_way_in(&self) -> bool {
        matches!(self, Self::Connect(_))
    }

    /// What the failure of a statement means that another driver ran.
    pub fn of_statement(error: tenantry_wire::Error) -> Self {
        crate::pools::meaning(error)
    }

    /// PostgreSQL's own error, if the statement failed by one.
    pub fn database(&self) -> Option<&tenantry_wire::DbError> {
        match self {
            Self::Statement(error) | Self::Context(error) => error.database(),
            Self::Connect(error) => error.database(),
            _ => None,
        }
    }
}
