//! A tenant's jobs, where its database goes on without it.

use tenantry_core::TenantId;
use tokio_postgres::Client;

use super::HomeError;
use crate::sql_error::Doing;

/// Rows per transaction.
const BATCH: i32 = 5_000;

/// Deletes all jobs of a tenant, whatever their state. Tells how many there were.
///
/// The tenant must be fenced off: nobody may enqueue or take one meanwhile.
///
/// # Errors
///
/// Where a statement fails; what was deleted stays deleted, and another call goes on.
///
/// # Cancel safety
///
/// Dropped, the open batch is rolled back with the connection.
pub async fn delete_jobs(client: &Client, tenant: TenantId) -> Result<u64, HomeError> {
    let mut deleted = 0;
    loop {
        let row = client
            .query_one("select tenantry_private.job_purge($1, $2)", &[tenant.as_uuid(), &BATCH])
            .await
            .doing("delete the tenant's jobs")?;
        let gone: i32 = row.get(0);
        deleted += u64::from(gone.unsigned_abs());
        if gone < BATCH {
            return Ok(deleted);
        }
    }
}
