//! What each placement's migration ledger says, as last seen; the ledger in the tenant database is the truth.

use chrono::{DateTime, Utc};
use tenantry_core::TenantDatabaseId;
use uuid::Uuid;

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

/// Which schemas the last attempt to bring to this version has failed at since then: database and schema.
///
/// # Errors
/// When the catalog fails.
pub async fn list_failed_since(
    db: &impl Db,
    since: DateTime<Utc>,
    version: i64,
) -> Result<Vec<(TenantDatabaseId, String)>, CatalogError> {
    let rows = db
        .query(
            "select tenant_database, schema_name from app_migration_failure where failed_at >= $1 and version = $2",
            &[&since, &version],
        )
        .await?;
    Ok(rows
        .iter()
        .map(|row| (TenantDatabaseId::from_uuid(row.get(0)), row.get(1)))
        .collect())
}

/// A schema that stayed behind, and why.
#[derive(Clone, Copy, Debug)]
pub struct Failed<'a> {
    /// The database.
    pub database: TenantDatabaseId,
    /// The schema.
    pub schema: &'a str,
    /// Why the last attempt failed, as it was read.
    pub error: &'a str,
}

/// Forgets these failures. One that another attempt has recorded since stays.
///
/// # Errors
/// When the catalog fails.
pub async fn forget_failures(db: &impl Db, failed: &[Failed<'_>]) -> Result<(), CatalogError> {
    let databases: Vec<Uuid> = failed.iter().map(|failed| *failed.database.as_uuid()).collect();
    let schemas: Vec<&str> = failed.iter().map(|failed| failed.schema).collect();
    let errors: Vec<&str> = failed.iter().map(|failed| failed.error).collect();
    db.execute(
        "delete from app_migration_failure as f
         using unnest($1::uuid[], $2::text[], $3::text[]) as s (tenant_database, schema_name, error)
         where f.tenant_database = s.tenant_database and f.schema_name = s.schema_name and f.error = s.error",
        &[&databases, &schemas, &errors],
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
