//! Whether a tenant has few rows, counted and not estimated.

use tenantry_core::TenantId;
use tenantry_sql::Identifier;
use tokio_postgres::Client;

use super::{TransferError, end::of, tables};
use crate::sql_error::Doing;

/// Whether a tenant has at least so many rows in the tables of a schema; it counts no further. As an administrator past row security.
///
/// # Errors
///
/// Where the database can't be asked.
///
/// # Cancel safety
///
/// It only reads.
pub async fn has_rows(
    client: &Client,
    schema: &Identifier,
    tenant: TenantId,
    at_least: i64,
) -> Result<bool, TransferError> {
    let mut left = at_least;
    for table in tables(client, schema).await? {
        if left <= 0 {
            break;
        }
        let count = format!(
            "select pg_catalog.count(*) from (select from {} where {} limit {left}) as few",
            table.quoted,
            of(tenant)
        );
        let row = client.query_one(&count, &[]).await.doing("count the tenant's rows")?;
        left -= row.get::<_, i64>(0);
    }
    Ok(left <= 0)
}
