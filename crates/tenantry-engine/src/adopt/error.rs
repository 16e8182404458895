//! What can go wrong while a database is adopted, by the operation that failed.

/// Why a database could not be adopted. Nothing was changed in the source, and nothing is left in the target.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdoptError {
    /// The source could not be reached.
    #[error("the source database can't be reached: check its URL")]
    Connect(#[source] crate::admin::AdminError),
    /// The source has no such schema.
    #[error("the source has no schema {schema}: name the one with the application's tables")]
    NoSchema {
        /// The schema that was asked for.
        schema: String,
    },
    /// A catalog query of the source failed.
    #[error("the source's {part} can't be read")]
    Read {
        /// What was being read.
        part: &'static str,
        /// PostgreSQL's answer.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The target tenant has rows already.
    #[error("the tenant already has rows in {table}: adopt copies into an empty tenant, create a new one")]
    NotEmpty {
        /// The first table with rows.
        table: String,
    },
    /// The rows of a table could not be copied.
    #[error("the rows of {table} can't be copied")]
    Copy {
        /// The table.
        table: String,
        /// PostgreSQL's answer.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The copy differs from the source.
    #[error(
        "the copy of {table} differs from its source ({source_rows} rows there, {target_rows} here): nothing was kept"
    )]
    Differs {
        /// The table.
        table: String,
        /// How many rows the source has.
        source_rows: i64,
        /// How many rows arrived.
        target_rows: i64,
    },
    /// A row points at nothing, or breaks a rule that the source did not hold either.
    #[error(
        "{violations} rows of {table} break the foreign key {constraint} already in the source: mend them there first"
    )]
    Orphans {
        /// The table.
        table: String,
        /// Its foreign key.
        constraint: String,
        /// How many rows.
        violations: i64,
    },
    /// The target refused a step around the copy.
    #[error("the target database refused to {step}")]
    Target {
        /// The step.
        step: &'static str,
        /// PostgreSQL's answer.
        #[source]
        source: tokio_postgres::Error,
    },
}

impl AdoptError {
    /// For `map_err` on catalog queries of the source.
    pub(super) fn read(part: &'static str) -> impl FnOnce(tokio_postgres::Error) -> Self {
        move |source| Self::Read { part, source }
    }

    /// For `map_err` on steps in the target.
    pub(super) fn target(step: &'static str) -> impl FnOnce(tokio_postgres::Error) -> Self {
        move |source| Self::Target { step, source }
    }
}
