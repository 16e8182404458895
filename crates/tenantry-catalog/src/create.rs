//! A place for a catalog: its database, and the role that owns it and nothing else.

use secrecy::{ExposeSecret, SecretString};
use tokio_postgres::{Config, error::SqlState};

use crate::{CatalogError, follow::dedicated};

/// The name of the catalog's database and of the role that owns it, where [`create_catalog`] makes them.
pub const CATALOG_NAME: &str = "tenantry_catalog";

/// Closes the databases that every cluster has to everybody but superusers, on a cluster of our own: the application's
/// roles connect to their tenant database and nowhere else.
///
/// # Errors
/// When the cluster can't be reached or refuses.
pub async fn close_maintenance_databases(admin_url: &str) -> Result<(), CatalogError> {
    let config: Config = admin_url.parse().map_err(CatalogError::Url)?;
    let client = dedicated(&config).await?.client;
    client
        .batch_execute("revoke all on database postgres, template1 from public")
        .await?;
    Ok(())
}

/// Makes the database and the role [`CATALOG_NAME`] where they are missing, and sets the role's password. Nobody else may
/// connect to that database.
///
/// `admin_url` is a superuser's, or one's with `createdb` and `createrole`.
///
/// # Errors
/// When the cluster can't be reached or refuses.
pub async fn create_catalog(admin_url: &str, password: &SecretString) -> Result<(), CatalogError> {
    let config: Config = admin_url.parse().map_err(CatalogError::Url)?;
    let client = dedicated(&config).await?.client;
    let made = client.batch_execute("create role tenantry_catalog login").await;
    unless_there(made, &SqlState::DUPLICATE_OBJECT)?;
    let password = password.expose_secret();
    let set = client
        .query_one(
            "select format('alter role tenantry_catalog password %L', $1::text)",
            &[&password],
        )
        .await?;
    client.batch_execute(set.try_get(0)?).await?;
    let made = client
        .batch_execute("create database tenantry_catalog owner tenantry_catalog")
        .await;
    unless_there(made, &SqlState::DUPLICATE_DATABASE)?;
    client
        .batch_execute("revoke all on database tenantry_catalog from public")
        .await?;
    Ok(())
}

fn unless_there(made: Result<(), tokio_postgres::Error>, there: &SqlState) -> Result<(), CatalogError> {
    match made {
        Err(error) if error.code() == Some(there) => Ok(()),
        made => Ok(made?),
    }
}
