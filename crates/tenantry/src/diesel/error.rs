//! From diesel's errors to ours, and ours inside of diesel's.

use std::io;

use diesel::result::{DatabaseErrorInformation, DatabaseErrorKind, Error as DieselError};
use tenantry_pool::Error as PoolError;
use tenantry_wire::{DbError, Error as WireError};

use crate::{Error, ErrorKind};

/// What PostgreSQL said, if it was PostgreSQL.
pub(super) fn refusal(error: &DieselError) -> Option<DbError> {
    let DieselError::DatabaseError(kind, information) = error else {
        return None;
    };
    if matches!(
        kind,
        DatabaseErrorKind::UnableToSendCommand | DatabaseErrorKind::ClosedConnection
    ) {
        return None;
    }
    let refusal = DbError::new(code(kind, &**information), information.message())
        .with_advice(information.details(), information.hint())
        .about(
            information.table_name(),
            information.column_name(),
            information.constraint_name(),
        )
        .at(None, information.statement_position().and_then(|at| at.try_into().ok()));
    Some(refusal)
}

/// The SQLSTATE, which diesel does not pass on: where its kind or the text tells, and we act on it.
fn code(kind: &DatabaseErrorKind, information: &(dyn DatabaseErrorInformation + Send + Sync)) -> &'static str {
    match kind {
        DatabaseErrorKind::UniqueViolation => "23505",
        DatabaseErrorKind::ForeignKeyViolation => "23503",
        DatabaseErrorKind::NotNullViolation => "23502",
        DatabaseErrorKind::CheckViolation => "23514",
        DatabaseErrorKind::ExclusionViolation => "23P01",
        DatabaseErrorKind::RestrictViolation => "23001",
        DatabaseErrorKind::SerializationFailure => "40001",
        DatabaseErrorKind::ReadOnlyTransaction => "25006",
        _ => code_of_message(information.message()),
    }
}

/// Our own sentences are the same in every language; of PostgreSQL's the English ones are known.
fn code_of_message(message: &str) -> &'static str {
    const CODES: [(&str, &str); 15] = [
        ("tenantry: the tenant does not live in this database", "TN001"),
        ("tenantry: the placement is out of date", "TN001"),
        ("tenantry: the tenant is suspended", "TN002"),
        ("tenantry: the tenant is moving", "TN003"),
        ("tenantry: token rejected", "28000"),
        ("tenantry: fenced", "22P02"),
        ("tenantry: the session is not bound", "22P02"),
        ("no unique or exclusion constraint matching the ON CONFLICT", "42P10"),
        ("must appear in the GROUP BY clause", "42803"),
        ("row-level security", "42501"),
        ("permission denied", "42501"),
        ("cached plan must not change result type", "0A000"),
        ("cache lookup failed", "XX000"),
        ("canceling statement due to", "57014"),
        ("terminating connection due to", "57P01"),
    ];
    CODES
        .iter()
        .find(|(text, _)| message.contains(text))
        .map_or("", |(_, code)| code)
}

/// What happened to the connection.
pub(super) fn wire(error: DieselError) -> WireError {
    match (refusal(&error), error) {
        (Some(refusal), _) => WireError::Database(Box::new(refusal)),
        (None, DieselError::DatabaseError(DatabaseErrorKind::ClosedConnection, _)) => WireError::Closed,
        (None, error) => WireError::Io(io::Error::other(error)),
    }
}

/// An error of ours, to be carried through diesel.
pub(super) fn carried(error: Error) -> DieselError {
    DieselError::QueryBuilderError(Box::new(error))
}

impl From<DieselError> for Error {
    /// Tells what an error means that a query of diesel gave on a scope: [`Error::kind`] is the same as if the scope had
    /// run it.
    fn from(error: DieselError) -> Self {
        let kind = match error {
            DieselError::DatabaseError(..) => return PoolError::of_statement(wire(error)).into(),
            DieselError::QueryBuilderError(inner) => match inner.downcast::<Self>() {
                Ok(ours) => return *ours,
                Err(inner) => return Self::new(ErrorKind::Refused, inner.to_string()).with_source(inner),
            },
            DieselError::NotFound => ErrorKind::RowCount,
            DieselError::SerializationError(_) | DieselError::InvalidCString(_) => ErrorKind::Parameter,
            DieselError::DeserializationError(_) => ErrorKind::Column,
            _ => ErrorKind::Unavailable,
        };
        Self::new(kind, error.to_string()).with_source(error)
    }
}
