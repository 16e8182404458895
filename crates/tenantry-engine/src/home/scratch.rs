//! Databases to try migrations in: made for a minute, and swept up where a process died over one.

use std::time::Duration;

use tenantry_core::InstallationId;
use tenantry_sql::Identifier;
use tokio_postgres::Client;
use uuid::Uuid;

use super::{HomeError, database::is_ours};
use crate::{
    admin::ServerAdmin,
    sql_error::{Doing, SqlError},
};

/// No derivation takes as long.
const OLD: Duration = Duration::from_secs(3600);
const PAUSE: Duration = Duration::from_millis(20);

/// A name for a scratch database that nobody has; it tells when it was made.
pub fn scratch_name(installation: &InstallationId) -> String {
    format!("{}{}", prefix(installation), Uuid::now_v7().simple())
}

fn prefix(installation: &InstallationId) -> String {
    format!("tn_{installation}_try_")
}

/// Drops a scratch database that the installation made.
///
/// # Errors
///
/// [`HomeError::NotOurs`] where it belongs to somebody else.
pub async fn drop_scratch(admin: &ServerAdmin, installation: &InstallationId, name: &str) -> Result<(), HomeError> {
    let client = admin.connect_maintenance().await?;
    if name.starts_with(&prefix(installation)) && is_ours(&client, installation, name).await? {
        let quoted = Identifier::new(name)?;
        client
            .batch_execute(&format!("drop database if exists {quoted} with (force)"))
            .await
            .doing("drop a scratch database")?;
    }
    Ok(())
}

/// Drops the scratch databases that processes left behind which died.
///
/// # Errors
///
/// Where the server can't be asked.
pub async fn drop_old_scratch(admin: &ServerAdmin, installation: &InstallationId) -> Result<(), HomeError> {
    let client = admin.connect_maintenance().await?;
    let rows = client
        .query(
            "select datname::text from pg_catalog.pg_database where pg_catalog.starts_with(datname::text, $1)",
            &[&prefix(installation)],
        )
        .await
        .doing("list scratch databases")?;
    for row in rows {
        let name: String = row.get(0);
        if is_old(&name[prefix(installation).len()..]) {
            drop_scratch(admin, installation, &name).await?;
        }
    }
    Ok(())
}

fn is_old(id: &str) -> bool {
    let Some((seconds, _)) = Uuid::parse_str(id)
        .ok()
        .and_then(|id| id.get_timestamp())
        .map(|at| at.to_unix())
    else {
        return false;
    };
    let made = std::time::UNIX_EPOCH + Duration::from_secs(seconds);
    made.elapsed().is_ok_and(|age| age > OLD)
}

/// Waits while a session whose client may be gone is still making the database: the server notices that only when it is
/// done, and what it makes would appear after somebody has looked.
///
/// # Errors
///
/// SQLSTATE 55P03 where it takes longer than `patience`.
pub async fn wait_for_creation(client: &Client, name: &str, patience: Duration) -> Result<(), SqlError> {
    let begins = format!(
        "create database {}",
        Identifier::new(name).map_or_else(|_| String::new(), |name| name.to_string())
    );
    let started = std::time::Instant::now();
    loop {
        let row = client
            .query_one(
                "select exists (select from pg_catalog.pg_stat_activity
                                 where state = 'active' and pg_catalog.starts_with(query, $1))",
                &[&begins],
            )
            .await
            .doing("look for a creation that is under way")?;
        if !row.get::<_, bool>(0) {
            return Ok(());
        }
        if started.elapsed() > patience {
            return client
                .batch_execute("do $$ begin raise exception using errcode = '55P03', message = 'a database is still being made'; end $$")
                .await
                .doing("wait for a creation that is under way");
        }
        tokio::time::sleep(PAUSE).await;
    }
}
