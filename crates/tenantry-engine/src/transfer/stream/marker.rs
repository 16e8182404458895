//! Markers: a message in the source's log behind everything that was committed before it.

use tenantry_wire::replication::Lsn;
use tokio_postgres::{
    Client,
    types::{PgLsn, Type},
};
use uuid::Uuid;

use super::StreamName;
use crate::sql_error::{Doing, SqlError};

/// Whom the message is for.
pub(super) const PREFIX: &str = "tenantry_move";

/// A message that was written to the source's log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Marker {
    /// What it says: no other marker says the same.
    pub(super) content: String,
    /// Where it ends.
    pub(super) position: Lsn,
}

impl Marker {
    /// Where it stands at the source: what was committed before it stands before this position.
    pub fn position(&self) -> Lsn {
        self.position
    }
}

/// Writes a marker at the source, as anybody who may connect there, in no transaction.
///
/// # Errors
///
/// Where the statement fails.
///
/// # Cancel safety
///
/// Dropped, it was written or not; another one can be written.
pub async fn emit_marker(client: &Client, name: &StreamName) -> Result<Marker, SqlError> {
    let content = format!("{} {}", name.text(), Uuid::now_v7().simple());
    // Outside of a transaction's own records nothing writes the log out at once: the number of a transaction makes its commit do it.
    let row = client
        .query_typed_one(
            "select pg_catalog.pg_logical_emit_message(false, $1, $2), pg_catalog.pg_current_xact_id()::text",
            &[(&PREFIX, Type::TEXT), (&content, Type::TEXT)],
        )
        .await
        .doing("write a marker into the log")?;
    Ok(Marker {
        content,
        position: Lsn(row.get::<_, PgLsn>(0).into()),
    })
}
