//! A database of the installation's own.

use tenantry_core::{InstallationId, TenantDatabaseId};
use tenantry_sql::Identifier;
use tokio_postgres::Client;

use super::{HomeError, Outcome};
use crate::{
    admin::ServerAdmin,
    roles::Roles,
    sql_error::{Doing, SqlError},
};

/// Makes a database that belongs to the installation's home role. That ownership is the mark: it is there from the first
/// moment, which a comment, set by a second statement, would not be. The server must be bootstrapped.
///
/// # Errors
///
/// [`HomeError::NotOurs`] where there is one of this name that belongs to somebody else.
///
/// # Cancel safety
///
/// The server may go on and make it; ask again.
pub async fn create_database(
    admin: &ServerAdmin,
    installation: &InstallationId,
    name: &str,
) -> Result<Outcome, HomeError> {
    let quoted = Identifier::new(name)?;
    let client = admin.connect_maintenance().await?;
    if is_ours(&client, installation, name).await? {
        return Ok(Outcome::AlreadySo);
    }
    let home = Roles::of(installation).home;
    // template0: nothing that somebody left in template1 comes along.
    let made = client
        .batch_execute(&format!("create database {quoted} owner {home} template template0"))
        .await;
    match made {
        // Somebody was faster; whether it was us is seen by looking again.
        Err(error)
            if error
                .code()
                .is_some_and(|code| matches!(code.code(), "42P04" | "23505")) =>
        {
            is_ours(&client, installation, name).await?;
            Ok(Outcome::AlreadySo)
        }
        made => {
            made.doing("make the database")?;
            Ok(Outcome::Done)
        }
    }
}

/// Drops a database that the installation made, ending its sessions, and its application role.
///
/// # Errors
///
/// [`HomeError::NotOurs`] where it belongs to somebody else.
///
/// # Cancel safety
///
/// Part of it may be done; ask again.
pub async fn drop_database(
    admin: &ServerAdmin,
    installation: &InstallationId,
    database: TenantDatabaseId,
    name: &str,
) -> Result<Outcome, HomeError> {
    let quoted = Identifier::new(name)?;
    let client = admin.connect_maintenance().await?;
    let app = Roles::app(installation, database);
    let there = is_ours(&client, installation, name).await?;
    if there {
        become_able_to_end_sessions(&client, &app).await?;
        client
            .batch_execute(&format!("drop database if exists {quoted} with (force)"))
            .await
            .doing("drop the database")?;
    }
    let had_role = drop_role(&client, &app).await?;
    Ok(if there || had_role {
        Outcome::Done
    } else {
        Outcome::AlreadySo
    })
}

/// Who is no superuser may end the sessions of roles it is a member of.
async fn become_able_to_end_sessions(client: &Client, app: &Identifier) -> Result<(), SqlError> {
    let row = client
        .query_one(
            "select coalesce(pg_has_role(oid, 'usage'), true), current_setting('server_version_num')::int4
               from (values (1)) one left join pg_roles on rolname = $1",
            &[&app.as_str()],
        )
        .await
        .doing("read memberships")?;
    if row.get::<_, bool>(0) {
        return Ok(());
    }
    let options = if row.get::<_, i32>(1) >= 160_000 {
        " with inherit true"
    } else {
        ""
    };
    client
        .batch_execute(&format!("grant {app} to current_user{options}"))
        .await
        .doing("join the application role to end its sessions")
}

async fn drop_role(client: &Client, app: &Identifier) -> Result<bool, SqlError> {
    let row = client
        .query_one(
            "select exists (select from pg_roles where rolname = $1)",
            &[&app.as_str()],
        )
        .await
        .doing("look for the application role")?;
    if !row.get::<_, bool>(0) {
        return Ok(false);
    }
    client
        .batch_execute(&format!("drop role if exists {app}"))
        .await
        .doing("drop the application role")?;
    Ok(true)
}

/// Whether the database is there and ours; an error where it is there and somebody else's.
pub(super) async fn is_ours(client: &Client, installation: &InstallationId, name: &str) -> Result<bool, HomeError> {
    let found = client
        .query_opt(
            "select pg_get_userbyid(datdba)::text from pg_database where datname = $1",
            &[&name],
        )
        .await
        .doing("look for the database")?;
    let Some(found) = found else { return Ok(false) };
    if found.get::<_, String>(0) != Roles::of(installation).home.as_str() {
        return Err(HomeError::NotOurs {
            kind: "database",
            name: name.to_owned(),
        });
    }
    Ok(true)
}
