//! What an installation needs once on each server.

use secrecy::SecretString;
use tenantry_core::{InstallationId, Tier};
use tenantry_sql::{Identifier, Literal};
use tokio_postgres::{GenericClient, Transaction};

use super::{BootstrapError, lock, session, session::Standing};
use crate::{
    admin::ServerAdmin,
    password,
    roles::Roles,
    seal::CARRIER,
    sql_error::{Doing, SqlError},
};

/// A server that is ready.
#[derive(Clone, Debug)]
pub struct Server {
    /// `server_version_num`.
    pub version: i32,
    /// How databases on it prove a context.
    pub tier: Tier,
    /// The role that moves tenants.
    pub mover: Mover,
}

/// The role that moves tenants, and what the server lets it do.
#[derive(Clone, Debug)]
pub struct Mover {
    /// Its name.
    pub role: String,
    /// Its password, for the catalog only.
    pub password: SecretString,
    /// Whether it bypasses row security; if not, copies go tenant by tenant.
    pub bypasses_row_security: bool,
    /// Whether it may replicate; if not, a tenant moves while it is stopped.
    pub replicates: bool,
}

/// Makes the installation's roles on a server and finds out which tier it allows.
///
/// `mover_password` is what the catalog holds already; without one a new one is made and set.
///
/// # Errors
///
/// Where the server is too old, can't be reached, or the administrator may not create roles.
///
/// # Cancel safety
///
/// All of it is one transaction: dropped, nothing is changed.
pub async fn server(
    admin: &ServerAdmin,
    installation: &InstallationId,
    mover_password: Option<&SecretString>,
) -> Result<Server, BootstrapError> {
    lock::again_on_collision(|| attempt(admin, installation, mover_password)).await
}

async fn attempt(
    admin: &ServerAdmin,
    installation: &InstallationId,
    mover_password: Option<&SecretString>,
) -> Result<Server, BootstrapError> {
    let mut client = admin.connect_maintenance().await?;
    let standing = Standing::read(&client).await?;
    let mut transaction = client.transaction().await.doing("begin")?;
    let done = prepare(&mut transaction, &standing, installation, mover_password).await;
    session::end(transaction, done).await
}

async fn prepare(
    transaction: &mut Transaction<'_>,
    standing: &Standing,
    installation: &InstallationId,
    mover_password: Option<&SecretString>,
) -> Result<Server, BootstrapError> {
    let roles = Roles::of(installation);
    session::pin_search_path(transaction).await?;
    lock::server(transaction).await?;
    for role in [&roles.seal, &roles.owner, &roles.home] {
        ensure_role(transaction, standing, installation, role, "nologin").await?;
    }
    for role in [&roles.owner, &roles.home] {
        become_member(transaction, standing, role).await?;
    }
    let mover = ensure_mover(transaction, standing, installation, &roles.mover, mover_password).await?;
    let tier = grant_carrier(transaction, &roles.seal).await?;
    Ok(Server {
        version: standing.version,
        tier,
        mover,
    })
}

/// Makes a role if it is not there, with our mark.
pub(super) async fn ensure_role(
    transaction: &Transaction<'_>,
    standing: &Standing,
    installation: &InstallationId,
    role: &Identifier,
    options: &str,
) -> Result<bool, BootstrapError> {
    if session::role_exists(transaction, role.as_str()).await? {
        return Ok(false);
    }
    let mark = Literal::new(Roles::mark(installation)).expect("a mark holds no zero byte");
    transaction
        .batch_execute(&format!(
            "create role {role} {options}; comment on role {role} is {mark}"
        ))
        .await
        .doing("create a role")
        .map_err(|error| match error.code() {
            Some("42501") => BootstrapError::NotAllowed {
                admin: standing.role.clone(),
                what: "create roles",
                mend: "give it CREATEROLE, or use a superuser",
            },
            _ => error.into(),
        })?;
    Ok(true)
}

/// Lets the administrator act as a role; a superuser may anyway.
async fn become_member(transaction: &Transaction<'_>, standing: &Standing, role: &Identifier) -> Result<(), SqlError> {
    if standing.superuser || is_usable(transaction, role).await? {
        return Ok(());
    }
    let options = standing.membership_options();
    transaction
        .batch_execute(&format!("grant {role} to current_user{options}"))
        .await
        .doing("join the owner role")
}

/// Whether the current role may act as the other one.
async fn is_usable(client: &impl GenericClient, role: &Identifier) -> Result<bool, SqlError> {
    let row = client
        .query_one("select pg_has_role($1, 'usage')", &[&role.as_str()])
        .await
        .doing("read memberships")?;
    Ok(row.get(0))
}

async fn ensure_mover(
    transaction: &mut Transaction<'_>,
    standing: &Standing,
    installation: &InstallationId,
    role: &Identifier,
    password: Option<&SecretString>,
) -> Result<Mover, BootstrapError> {
    let made = ensure_role(transaction, standing, installation, role, "login").await?;
    let password = password.cloned().unwrap_or_else(password::generate);
    let verifier = Literal::new(password::verifier(&password)).expect("base64 holds no zero byte");
    transaction
        .batch_execute(&format!("alter role {role} password {verifier}"))
        .await
        .doing("set the mover's password")?;
    if made {
        // From PostgreSQL 16 on one may give only what one has; before, only a superuser gives these.
        for attribute in ["bypassrls", "replication"] {
            tolerate_refusal(transaction, &format!("alter role {role} {attribute}")).await?;
        }
        // Copies at a target must not fire the application's triggers a second time.
        tolerate_refusal(
            transaction,
            &format!("grant set on parameter session_replication_role to {role}"),
        )
        .await?;
    }
    let row = transaction
        .query_one(
            "select rolbypassrls, rolreplication from pg_roles where rolname = $1",
            &[&role.as_str()],
        )
        .await
        .doing("read the mover's rights")?;
    Ok(Mover {
        role: role.as_str().to_owned(),
        password,
        bypasses_row_security: row.get(0),
        replicates: row.get(1),
    })
}

/// Grants the carrier to the seal's role, if the administrator may; whether it worked is read back, since a grant without
/// the option is only a warning.
async fn grant_carrier(transaction: &mut Transaction<'_>, seal: &Identifier) -> Result<Tier, SqlError> {
    if !has_carrier(transaction, seal).await? {
        tolerate_refusal(transaction, &format!("grant set on parameter {CARRIER} to {seal}")).await?;
    }
    Ok(match has_carrier(transaction, seal).await? {
        true => Tier::Sealed,
        false => Tier::Signed,
    })
}

/// Whether the seal's role may set the carrier.
pub(super) async fn has_carrier(client: &impl GenericClient, seal: &Identifier) -> Result<bool, SqlError> {
    let row = client
        .query_one(
            "select has_parameter_privilege($1, $2, 'set')",
            &[&seal.as_str(), &CARRIER],
        )
        .await
        .doing("read the rights on the carrier")?;
    Ok(row.get(0))
}

/// Runs a statement that the administrator may not be allowed to run.
async fn tolerate_refusal(transaction: &mut Transaction<'_>, statement: &str) -> Result<(), SqlError> {
    let savepoint = transaction.transaction().await.doing("set a savepoint")?;
    match savepoint.batch_execute(statement).await {
        Ok(()) => savepoint.commit().await.doing("release a savepoint"),
        Err(error) if error.code().is_some_and(|code| code.code() == "42501") => {
            savepoint.rollback().await.doing("go back to a savepoint")
        }
        Err(error) => Err(error).doing("grant rights to a role of the mechanism"),
    }
}
