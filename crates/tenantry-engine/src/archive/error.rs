//! Why an archive can't be written, read or loaded.

use crate::{home::HomeError, sql_error::SqlError};

/// Why an archive can't be written, read or loaded. Whatever it is, the tenant database is as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// The file can't be read or written.
    #[error("the archive can't be {doing}: {source}")]
    Io {
        /// `read` or `written`.
        doing: &'static str,
        /// What the system says.
        source: std::io::Error,
    },
    /// It is none.
    #[error("this is no archive of a tenant: `tenantry tenant export` writes them")]
    NotAnArchive,
    /// Its end is missing, or something stands behind it.
    #[error(
        "the archive does not end as it was written: it was cut off, or something was appended; copy it again from where it was made"
    )]
    CutOff,
    /// A later program wrote it.
    #[error("the archive has format {found}, this program reads {FORMAT}: use the program that wrote it, or a newer one", FORMAT = super::FORMAT)]
    Newer {
        /// Its format.
        found: u16,
    },
    /// Nobody who is trusted here signed it.
    #[error(
        "the archive was signed by {signer}, which is not trusted here: if you know who that is, name it with --signed-by"
    )]
    UnknownSigner {
        /// Their public key, in hex.
        signer: String,
    },
    /// Its bytes are not those that were signed.
    #[error("the archive was changed after it had been signed: take another copy")]
    Tampered,
    /// Signed, but not as this program writes it.
    #[error("the archive can't be understood: {0}")]
    Malformed(String),
    /// The tables changed while they were being listed.
    #[error("the tables of schema `{0}` keep changing: export when the migration has ended")]
    Changing(String),
    /// The tenant does not live there any more.
    #[error("the tenant has moved, or is moving: try again")]
    Moved,
    /// What arrived is not what was sent.
    #[error(
        "the rows of {table} differ after loading ({sent} were sent, {arrived} arrived): a trigger, a default or a policy of the target changes them"
    )]
    Differs {
        /// The table.
        table: String,
        /// How many were sent.
        sent: u64,
        /// How many arrived.
        arrived: u64,
    },
    /// The archive's own counts do not fit its rows.
    #[error("the rows of {table} are not those that the manifest counts")]
    Miscounted {
        /// The table.
        table: String,
    },
    /// The target lacks a table or a column, or has others.
    #[error("the table {table} does not fit: {reason}")]
    Unfit {
        /// The table.
        table: String,
        /// In what.
        reason: String,
    },
    /// Rows point at nothing.
    #[error(
        "{violations} rows of {table} break the foreign key {constraint}: what they refer to (a reference table's row?) is not there"
    )]
    Orphans {
        /// The table.
        table: String,
        /// Its foreign key.
        constraint: String,
        /// How many.
        violations: i64,
    },
    /// A rule to mask values can't be used.
    #[error(transparent)]
    Mask(#[from] super::MaskError),
    /// The rows can't get new ids.
    #[error(transparent)]
    Ids(#[from] super::IdError),
    /// A statement failed.
    #[error(transparent)]
    Sql(#[from] SqlError),
    /// Whoever was to take or give rows has ended.
    #[error("the other side of the archive has ended")]
    Ended,
}

impl ArchiveError {
    pub(super) fn reading(source: std::io::Error) -> Self {
        Self::Io { doing: "read", source }
    }

    pub(super) fn writing(source: std::io::Error) -> Self {
        Self::Io {
            doing: "written",
            source,
        }
    }

    pub(super) fn malformed(what: impl std::fmt::Display) -> Self {
        Self::Malformed(what.to_string())
    }
}

impl From<HomeError> for ArchiveError {
    fn from(error: HomeError) -> Self {
        match error {
            HomeError::Sql(error) => error.into(),
            other => Self::malformed(other),
        }
    }
}
