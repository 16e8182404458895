//! Why a tenant's rows were not transferred.

use super::TableDifference;
use crate::sql_error::SqlError;

/// Why a tenant's rows were not transferred. What the target holds of them by then is thrown away by the next attempt.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransferError {
    /// A statement failed.
    #[error(transparent)]
    Sql(#[from] SqlError),
    /// The rows of a table could not be copied.
    #[error("the rows of {table} can't be copied: {}", said(source))]
    Copy {
        /// The table.
        table: String,
        /// What the driver says.
        #[source]
        source: tokio_postgres::Error,
    },
    /// One of the two servers keeps its connection and sends nothing.
    #[error("the copy of {table} came to a standstill: one of the two servers does not answer")]
    Stalled {
        /// The table.
        table: String,
    },
    /// The two homes do not have the same tables and columns.
    #[error("the new home {what}: bring both to the same version of the application's migrations")]
    Structure {
        /// `lacks the column a of b`.
        what: String,
    },
    /// Rows differ.
    #[error("the copy differs from its source: {}", named(.0))]
    Differs(Vec<TableDifference>),
    /// Rows refer to rows that every tenant shares and that the new home lacks.
    #[error(
        "{rows} rows of {table} refer by {constraint} to rows of a reference table that the new home lacks: bring the reference tables to the same content"
    )]
    Orphans {
        /// The table.
        table: String,
        /// The foreign key.
        constraint: String,
        /// How many.
        rows: i64,
    },
}

impl TransferError {
    /// The driver's error, if it is one.
    #[must_use]
    pub fn database(&self) -> Option<&tokio_postgres::Error> {
        match self {
            Self::Sql(error) => Some(&error.source),
            Self::Copy { source, .. } => Some(source),
            _ => None,
        }
    }
}

fn said(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(db) => format!("{} ({})", db.message(), db.code().code()),
        None => error.to_string(),
    }
}

fn named(differences: &[TableDifference]) -> String {
    let each: Vec<_> = differences.iter().map(ToString::to_string).collect();
    each.join("; ")
}
