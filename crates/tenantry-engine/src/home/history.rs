//! The history of a tenant's rows, for whoever administers its database.

use tenantry_core::TenantId;
use tokio_postgres::Client;

use super::{HomeError, batches::in_batches};

/// Deletes the history of all rows of a tenant. Tells how many entries there were.
///
/// The tenant must be fenced off: nobody may change its rows meanwhile.
///
/// # Errors
///
/// Where a statement fails; what was deleted stays deleted, and another call goes on.
///
/// # Cancel safety
///
/// Dropped, the open batch is rolled back with the connection.
pub async fn delete_history(client: &Client, tenant: TenantId) -> Result<u64, HomeError> {
    let sql = "select tenantry_private.history_purge($1, $2)";
    Ok(in_batches(client, sql, &[tenant.as_uuid()], "delete the tenant's history").await?)
}
