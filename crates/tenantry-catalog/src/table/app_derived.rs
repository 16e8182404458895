//! What the application's migrations have become.

use crate::{CatalogError, Db};

/// What these migrations have become, if a process has worked it out.
///
/// # Errors
/// When the catalog fails.
pub async fn find(db: &impl Db, key: &[u8]) -> Result<Option<String>, CatalogError> {
    let row = db
        .query_opt("select derived from app_derived where key = $1", &[&key])
        .await?;
    Ok(row.map(|row| row.get(0)))
}

/// Keeps it for the others; what nobody has asked to keep for 90 days is forgotten.
///
/// # Errors
/// When the catalog fails.
pub async fn keep(db: &impl Db, key: &[u8], derived: &str) -> Result<(), CatalogError> {
    db.execute(
        "delete from app_derived where created_at < now() - interval '90 days'",
        &[],
    )
    .await?;
    db.execute(
        "insert into app_derived (key, derived) values ($1, $2) on conflict do nothing",
        &[&key, &derived],
    )
    .await?;
    Ok(())
}
