//! What the planner knows of tables that were just filled.

use tokio_postgres::Client;

use super::Table;
use crate::sql_error::{Doing, SqlError};

/// Renews a table's statistics. Of a table that was empty a moment ago the planner takes each index to be as good as its key's: it reads all of
/// a tenant's rows for each one that it looks up, while the tenant waits. Holds up nobody who reads or writes.
///
/// # Errors
///
/// Where the statement fails.
///
/// # Cancel safety
///
/// The statistics are the old ones or the new ones; the server may go on for a moment.
pub async fn renew_statistics(client: &Client, table: &Table) -> Result<(), SqlError> {
    client
        .batch_execute(&format!("analyze {}", table.quoted))
        .await
        .doing("renew a table's statistics")
}
