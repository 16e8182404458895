//! From sqlx's errors to ours, and ours inside of sqlx's.

use std::{error::Error as _, io};

use ::sqlx::{
    Error as SqlxError,
    postgres::{PgDatabaseError, PgErrorPosition},
};
use tenantry_pool::Error as PoolError;
use tenantry_wire::{DbError, Error as WireError};

use crate::{Error, ErrorKind};

/// What PostgreSQL said, if it was PostgreSQL.
pub(super) fn refusal(error: &SqlxError) -> Option<DbError> {
    let error = error.as_database_error()?.try_downcast_ref::<PgDatabaseError>()?;
    let refusal = DbError::new(error.code(), error.message())
        .with_advice(error.detail(), error.hint())
        .about(error.table(), error.column(), error.constraint())
        .at(Some(format!("{:?}", error.severity()).to_uppercase()), position(error));
    Some(refusal)
}

fn position(error: &PgDatabaseError) -> Option<u32> {
    match error.position()? {
        PgErrorPosition::Original(position) => position.try_into().ok(),
        PgErrorPosition::Internal { .. } => None,
    }
}

/// What happened to the connection.
pub(super) fn wire(error: SqlxError) -> WireError {
    if let Some(refusal) = refusal(&error) {
        return WireError::Database(Box::new(refusal));
    }
    match error {
        SqlxError::Io(error) => WireError::Io(error),
        SqlxError::Tls(error) => WireError::Tls(error.to_string()),
        other => WireError::Io(io::Error::other(other)),
    }
}

/// An error of ours, to be carried through sqlx.
pub(super) fn carried(error: Error) -> SqlxError {
    SqlxError::Configuration(Box::new(error))
}

impl From<SqlxError> for Error {
    /// Tells what an error means that a query of sqlx gave on a scope: [`Error::kind`] is the same as if the scope had
    /// run it.
    fn from(error: SqlxError) -> Self {
        let kind = match error {
            SqlxError::Database(_) | SqlxError::Io(_) | SqlxError::Tls(_) => {
                return PoolError::of_statement(wire(error)).into();
            }
            SqlxError::Configuration(inner) => match inner.downcast::<Self>() {
                Ok(ours) => return *ours,
                Err(inner) => return Self::new(ErrorKind::Unavailable, inner.to_string()).with_source(inner),
            },
            SqlxError::RowNotFound => ErrorKind::RowCount,
            SqlxError::Encode(_) | SqlxError::InvalidArgument(_) => ErrorKind::Parameter,
            SqlxError::TypeNotFound { .. }
            | SqlxError::ColumnIndexOutOfBounds { .. }
            | SqlxError::ColumnNotFound(_)
            | SqlxError::ColumnDecode { .. }
            | SqlxError::Decode(_) => ErrorKind::Column,
            _ => ErrorKind::Unavailable,
        };
        let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
        let message = match kind {
            ErrorKind::RowCount => "the query gave no row".to_owned(),
            _ if error.to_string().contains(cause.trim_start_matches(": ")) => error.to_string(),
            _ => format!("{error}{cause}"),
        };
        Self::new(kind, message).with_source(error)
    }
}
