//! Why a stream ended.

use tenantry_wire::replication::DecodeError;

use crate::sql_error::SqlError;

/// A change stream could not be made, or ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// The source's replication connection failed. Starting again goes on where the target is.
    #[error("could not {doing} at the source: {source}")]
    Source {
        /// As in "could not …".
        doing: &'static str,
        /// What it says.
        source: tenantry_wire::Error,
    },
    /// The source sent what nobody understands.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// A statement failed.
    #[error(transparent)]
    Sql(#[from] SqlError),
    /// A row could not be written at the target. Starting again tries it again.
    #[error("could not {act} a row of `{table}` at the target: {source}")]
    Row {
        /// `insert`, `update` or `delete`.
        act: &'static str,
        /// The table's plain name.
        table: String,
        /// What the server says.
        source: SqlError,
    },
    /// Rows of a table can't be told apart.
    #[error(
        "the table `{table}` has no primary key with `tenant_id`: its changes can't be told to the new home; add one, then move"
    )]
    NoKey {
        /// The table's plain name.
        table: String,
    },
    /// The tables of both sides are not, or no longer, the same.
    #[error(
        "the table `{table}` {what}: it was altered since the move was planned, or the two homes have different versions; abort the move, migrate both homes to one version and plan it again"
    )]
    Structure {
        /// The table's plain name.
        table: String,
        /// How it differs.
        what: String,
    },
    /// The source emptied a table.
    #[error(
        "the table `{table}` was truncated at the source, which tells nothing of whose rows went: abort the move and plan it again"
    )]
    Truncated {
        /// The table's plain name.
        table: String,
    },
    /// A row that the row filter should have held back.
    #[error(
        "a row of `{table}` belongs to another tenant: it was not written; the publication is not the one that was made for this move"
    )]
    Foreign {
        /// The table's plain name.
        table: String,
    },
    /// The target does not have what the source had.
    #[error(
        "the target has {rows} rows of `{table}` where the source {act} one: somebody else wrote there, or the copy is not whole; abort the move and plan it again"
    )]
    Diverged {
        /// `updated` or `deleted`.
        act: &'static str,
        /// The table's plain name.
        table: String,
        /// How many rows it has with the changed row's key.
        rows: u64,
    },
    /// Another process applies the same stream.
    #[error("another process applies this stream: this one stops")]
    Superseded,
    /// The target does not know the stream.
    #[error("the target holds no position of this stream: the copy was not begun, or its move has ended")]
    NoPosition,
    /// The slot is gone, or the source gave up what it kept for it.
    #[error("the source no longer holds the changes since the copy ({reason}): abort the move and plan it again")]
    SlotLost {
        /// What the source says.
        reason: String,
    },
    /// Transactions at the source kept the slot from being made.
    #[error(
        "the slot could not be made in {seconds} s: it waits for every transaction that writes anywhere on the source's server; end the long ones (pg_stat_activity, pg_prepared_xacts) and try again"
    )]
    Impatient {
        /// How long was waited.
        seconds: u64,
    },
    /// Something of this name exists that this installation did not make for this move.
    #[error(
        "the publication `{name}` was not made by this installation for this move: it is left alone; drop or rename it"
    )]
    NotOurs {
        /// Its name.
        name: String,
    },
    /// An earlier call was dropped or failed, so that its state is unknown.
    #[error("the applier is not usable: an earlier call on it failed or was abandoned; start another one")]
    Abandoned,
    /// A name can't be one.
    #[error(transparent)]
    Name(#[from] tenantry_sql::IdentifierError),
}

impl StreamError {
    /// The source has no slot or sender left at this moment.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Source { source, .. } if matches!(source.code(), Some("53400" | "53300")))
    }
}

/// Says what a call on the replication connection was for.
pub(super) trait AtSource<T> {
    /// As in "could not …".
    fn at_source(self, doing: &'static str) -> Result<T, StreamError>;
}

impl<T> AtSource<T> for Result<T, tenantry_wire::Error> {
    fn at_source(self, doing: &'static str) -> Result<T, StreamError> {
        self.map_err(|source| StreamError::Source { doing, source })
    }
}
