//! What each placement's migration ledger says, as last seen; the ledger in the tenant database is the truth.

use chrono::{DateTime, Utc};
use tenantry_core::TenantDatabaseId;
use uuid::Uuid;

use crate::{CatalogError, Db};

/// A schema that could not be migrated.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// In which database.
    pub database: TenantDatabaseId,
    /// Which schema.
    pub schema: String,
    /// The version that failed.
    pub version: i64,
    /// Why.
    pub error: String,
    /// When it was last tried.
    pub failed_at: DateTime<Utc>,
}

/// Which schema of which database.
#[derive(Clone, Copy, Debug)]
pub struct SiteKey<'a> {
    /// The database.
    pub database: TenantDatabaseId,
    /// The schema.
    pub schema: &'a str,
}

/// Records the versions that a schema has, as number, name and checksum; it is no straggler any more.
///
/// # Errors
/// When the catalog fails.
pub async fn record(db: &impl Db, site: SiteKey<'_>, versions: &[(i64, &str, &str)]) -> Result<(), CatalogError> {
    let numbers: Vec<i64> = versions.iter().map(|version| version.0).collect();
    let names: Vec<&str> = versions.iter().map(|version| version.1).collect();
    let checksums: Vec<&str> = versions.iter().map(|version| version.2).collect();
    db.execute(
        "with cleared as (delete from app_migration_failure where tenant_database = $1 and schema_name = $2)
         insert into app_migration (tenant_database, schema_name, version, name, checksum)
         select $1, $2, v.version, v.name, v.checksum
         from unnest($3::bigint[], $4::text[], $5::text[]) as v (version, name, checksum)
         on conflict do nothing",
        &[site.database.as_uuid(), &site.schema, &numbers, &names, &checksums],
    )
    .await?;
    Ok(())
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

/// The newest version of each schema.
///
/// # Errors
/// When the catalog fails.
pub async fn versions(db: &impl Db) -> Result<Vec<(TenantDatabaseId, String, i64)>, CatalogError> {
    let rows = db
        .query(
            "select tenant_database, schema_name, max(version) from app_migration group by tenant_database, schema_name",
            &[],
        )
        .await?;
    Ok(rows
        .iter()
        .map(|row| {
            (
                TenantDatabaseId::from_uuid(row.get::<_, Uuid>(0)),
                row.get(1),
                row.get(2),
            )
        })
        .collect())
}

/// Every schema whose last migration failed.
///
/// # Errors
/// When the catalog fails.
pub async fn failures(db: &impl Db) -> Result<Vec<Failure>, CatalogError> {
    let rows = db
        .query(
            "select tenant_database, schema_name, version, error, failed_at from app_migration_failure
             order by tenant_database, schema_name",
            &[],
        )
        .await?;
    Ok(rows
        .iter()
        .map(|row| Failure {
            database: TenantDatabaseId::from_uuid(row.get(0)),
            schema: row.get(1),
            version: row.get(2),
            error: row.get(3),
            failed_at: row.get(4),
        })
        .collect())
}

/// Forgets a schema that is gone.
///
/// # Errors
/// When the catalog fails.
pub async fn forget(db: &impl Db, database: TenantDatabaseId, schema: &str) -> Result<(), CatalogError> {
    db.execute(
        "with failures as (delete from app_migration_failure where tenant_database = $1 and schema_name = $2)
         delete from app_migration where tenant_database = $1 and schema_name = $2",
        &[database.as_uuid(), &schema],
    )
    .await?;
    Ok(())
}
