//! Telling every process what its caches must drop.

use std::sync::LazyLock;

use tenantry_core::Change;

use crate::{CatalogError, Db, db::light};

/// The channel on which changes are announced; the payload is the text of a [`Change`].
pub const CHANNEL: &str = "tenantry_changes";

/// Announces a change. To be called in the transaction that makes it: PostgreSQL sends the notification when that
/// commits, and the row stays for whoever was not listening.
///
/// # Errors
/// When the catalog fails.
pub async fn announce(db: &impl Db, change: Change) -> Result<(), CatalogError> {
    db.execute(
        "with logged as (insert into change (payload) values ($2) returning payload)
         select pg_notify($1, payload) from logged",
        &[&CHANNEL, &change.to_string()],
    )
    .await?;
    Ok(())
}

/// Announces what others find out by themselves a moment later, and is there already: nothing is made in the same transaction, and nobody waits
/// for the disk.
///
/// # Errors
/// When the catalog fails. Nothing is lost by it but the moment.
pub async fn hint(db: &impl Db, change: Change) -> Result<(), CatalogError> {
    static SQL: LazyLock<String> = LazyLock::new(|| {
        light(
            ", logged as (insert into change (payload) select $2::text from light returning payload)
             select pg_notify($1, payload) from logged",
        )
    });
    db.execute(&SQL, &[&CHANNEL, &change.to_string()]).await?;
    Ok(())
}

/// Forgets changes that every living process has long seen.
///
/// # Errors
/// When the catalog fails.
pub async fn prune(db: &impl Db) -> Result<u64, CatalogError> {
    Ok(db
        .execute("delete from change where at < now() - interval '1 hour'", &[])
        .await?)
}
