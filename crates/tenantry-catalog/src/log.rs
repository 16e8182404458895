//! In which log the catalog's commits stand; see `tenantry_engine::log`, which names those of tenant databases.

use crate::{CatalogError, Client};

/// Names it. Not within a transaction, which an answer that is refused would end.
///
/// # Errors
/// When the catalog fails, or does not say.
///
/// # Cancel safety
/// Nothing is changed by it.
pub async fn name(client: &Client) -> Result<String, CatalogError> {
    const SQL: &str = "select c.system_identifier || ' ' || extract(epoch from pg_postmaster_start_time())
         from pg_control_system() as c";
    Ok(crate::Db::query_one(client, SQL, &[]).await?.get(0))
}
