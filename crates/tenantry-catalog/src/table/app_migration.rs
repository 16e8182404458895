//! What each placement's migration ledger says, as last seen; the ledger in the tenant database is the truth.

use tenantry_core::TenantDatabaseId;

use crate::{CatalogError, Db};

/// Which schema of which database.
#[derive(Clone, Copy, Debug)]
pub struct SiteKey<'a> {
    /// The database.
    pub database: TenantDatabaseId,
    /// The schema.
    pub schema: &'a str,
}

/// Records that a schema stays behind.
///
/// # Errors
/// When the catalog fails.
pub async fn record_failure(db: &impl Db, site: SiteKey<'_>, version: i64, error: &str) -> Result<(), CatalogError> {
    db.execute(
        "insert into app_migration_failure (tenant_database, schema_name, version, error) values ($1, $2, $3, $4)
         on conflict (tenant_database, schema_name) do update
         set version = excluded.version, error = excluded.error, failed_at = now()",
        &[site.database.as_uuid(), &site.schema, &version, &error],
    )
    .await?;
    Ok(())
}

/// Forgets a schema that is gone.
///
/// # Errors
/// When the catalog fails.
pub async fn forget(db: &impl Db, database: TenantDatabaseId, schema: &str) -> Result<(), CatalogError> {
    db.execute(
        "with failures as (delete from app_migration_failure where tenant_database = $1 and schema_name = $2)
         delete from app_migration where tenant_database = $1 and schema_name in ($2, $2 || '/overlay')",
        &[database.as_uuid(), &schema],
    )
    .await?;
    Ok(())
}
