//! The history of a tenant's rows, for whoever administers its database.

use tenantry_core::TenantId;
use tokio_postgres::Client;

use super::{HomeError, batches::in_batches};
use crate::sql_error::{Doing, SqlError};

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

/// How many entries the history of a tenant's rows has. `None` where the administrator may not read it: one who is no superuser may only
/// take it out.
///
/// # Errors
///
/// Where a statement fails.
pub async fn count_history(client: &Client, tenant: TenantId) -> Result<Option<u64>, SqlError> {
    let row = client
        .query_one(
            "select case when pg_catalog.has_schema_privilege('tenantry_private', 'usage')
                         then coalesce(pg_catalog.has_table_privilege(pg_catalog.to_regclass('tenantry_private.history'), 'select'), false)
                         else false end",
            &[],
        )
        .await
        .doing("ask who may read the history")?;
    if !row.get::<_, bool>(0) {
        return Ok(None);
    }
    let row = client
        .query_one(
            "select pg_catalog.count(*) from tenantry_private.history where tenant = $1",
            &[tenant.as_uuid()],
        )
        .await
        .doing("count the tenant's history")?;
    Ok(Some(u64::try_from(row.get::<_, i64>(0)).unwrap_or(0)))
}

/// Whether a tenant has any history. There is no function that only counts, so one entry is taken out and put back.
pub(crate) async fn has_history(client: &Client, tenant: TenantId) -> Result<bool, SqlError> {
    let asked = async {
        client.batch_execute("begin").await?;
        client
            .query_one("select tenantry_private.history_purge($1, 1)", &[tenant.as_uuid()])
            .await
    };
    let found = asked.await;
    // Where this fails too the connection is gone, and the transaction with it.
    let _ = client.batch_execute("rollback").await;
    Ok(found.doing("look for the tenant's history")?.get::<_, i32>(0) > 0)
}
