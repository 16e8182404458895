//! In which log a session's commits stand.
//!
//! A server has one log for all its databases, so of two sessions that write to one log the later commit is on the disk only together with
//! the earlier one, whatever crashes: the earlier one need not be waited for by itself.

use tokio_postgres::GenericClient;

use crate::sql_error::{Doing, SqlError};

/// Names it, as the catalog's `log::name` does: by the cluster, and by when the server was started, since copies of a cluster have its
/// identifier too. Two sessions that get the same name write to one log for as long as both live.
///
/// # Errors
///
/// Where the database does not say.
///
/// # Cancel safety
///
/// Nothing is changed by it.
pub async fn name(client: &impl GenericClient) -> Result<Option<String>, SqlError> {
    let rows = client
        .query_typed(
            "select c.system_identifier || ' ' || extract(epoch from pg_catalog.pg_postmaster_start_time())
               from pg_catalog.pg_control_system() c",
            &[],
        )
        .await
        .doing("ask which log it writes to")?;
    Ok(rows.first().map(|row| row.get(0)))
}
