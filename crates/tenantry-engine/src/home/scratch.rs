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

/// What a scratch database's keeper locks; the parameter is its name.
const KEY: &str = "pg_catalog.hashtextextended('tenantry scratch ' || $1::text, 0)";
/// What the isolated form calls, where the scratch database was not bootstrapped.
const STUBS: &str = "
create schema if not exists tenantry;
create or replace function tenantry.tenant_id() returns uuid language sql stable parallel safe begin atomic select null::uuid; end;
create or replace function tenantry.account_id() returns uuid language sql stable parallel safe begin atomic select null::uuid; end;
create or replace function tenantry.has_role(text) returns boolean language sql stable parallel safe begin atomic select false; end;
create or replace function tenantry.may_write() returns boolean language sql stable parallel safe begin atomic select false; end;
create or replace function tenantry.binding_may_write() returns boolean language sql stable parallel safe begin atomic select false; end;
create or replace function tenantry.note_history() returns trigger language plpgsql as $f$ begin return null; end $f$;
grant usage on schema tenantry to public;
";
const PAUSE: Duration = Duration::from_millis(20);

/// What every scratch database holds, whether or not it was bootstrapped: the functions that isolated tables call, and the
/// schema for extensions.
pub(crate) async fn prepare_scratch(client: &Client) -> Result<(), tokio_postgres::Error> {
    let bootstrapped = client
        .query_one("select to_regprocedure('tenantry.tenant_id()') is not null", &[])
        .await?
        .get::<_, bool>(0);
    if !bootstrapped {
        client.batch_execute(STUBS).await?;
    }
    client
        .batch_execute(
            "set client_min_messages = warning;
             create schema if not exists tenantry_ext;
             grant usage on schema tenantry_ext to public",
        )
        .await
}

/// A database to try migrations in, kept by a session: whoever finds one that nobody keeps may drop it.
#[derive(Debug)]
pub struct ScratchDatabase {
    admin: ServerAdmin,
    installation: InstallationId,
    name: String,
    /// Holds the lock that says that somebody uses it; the lock ends with the process, however that ends.
    keeper: Client,
}

impl ScratchDatabase {
    /// Makes one, after dropping those that processes left behind which died.
    ///
    /// # Errors
    ///
    /// Where the server can't be asked, or makes no databases.
    ///
    /// # Cancel safety
    ///
    /// The server may go on and make it; the next one that is made drops it.
    pub async fn make(admin: &ServerAdmin, installation: &InstallationId) -> Result<Self, HomeError> {
        drop_old_scratch(admin, installation).await?;
        let name = scratch_name(installation);
        let keeper = admin.connect_maintenance().await?;
        keeper
            .execute(&format!("select pg_advisory_lock({KEY})"), &[&name])
            .await
            .doing("keep a scratch database")?;
        super::create_database(admin, installation, &name).await?;
        Ok(Self {
            admin: admin.clone(),
            installation: installation.clone(),
            name,
            keeper,
        })
    }

    /// A connection of the administrator's to it.
    ///
    /// # Errors
    ///
    /// Where the server does not answer.
    pub async fn connect(&self) -> Result<Client, HomeError> {
        Ok(self.admin.connect(&self.name).await?)
    }

    /// Drops it. Where that fails the next one that is made drops it too.
    pub async fn remove(self) {
        if let Err(error) = drop_scratch(&self.admin, &self.installation, &self.name).await {
            tracing::warn!(database = self.name, %error, "a scratch database stays for now");
        }
        drop(self.keeper);
    }
}

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

/// Drops the scratch databases that processes left behind which died: those whose keeper is gone.
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
        let unkept = client
            .query_one(&format!("select pg_try_advisory_lock({KEY})"), &[&name])
            .await
            .doing("look whether a scratch database is kept")?;
        if unkept.get::<_, bool>(0) {
            drop_scratch(admin, installation, &name).await?;
            client
                .execute(&format!("select pg_advisory_unlock({KEY})"), &[&name])
                .await
                .doing("let a scratch database go")?;
        }
    }
    Ok(())
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
