//! What a placement should hold: the isolated steps of its versions, run in a schema of a scratch database.

use tenantry_core::InstallationId;
use tenantry_sql::Identifier;
use tokio_postgres::Client;

use crate::{
    home::prepare_scratch,
    isolate::Version,
    migrate::{self, ApplyError, Target},
    roles::Roles,
};

/// A schema of a scratch database that looks like a placement without a tenant.
#[derive(Debug)]
pub struct ScratchSite;

impl ScratchSite {
    /// Makes the schema, in a scratch database that may hold others. The database has no application role of its own:
    /// another role that means nothing there stands for it.
    ///
    /// # Errors
    ///
    /// The database's.
    pub async fn make(client: &Client, installation: &InstallationId, name: &str) -> Result<Target, ApplyError> {
        let roles = Roles::of(installation);
        let target = Target {
            schema: Identifier::new(name).expect("a name of ours is one"),
            owner: roles.owner,
            application: roles.home,
            mover: roles.mover,
        };
        prepare_scratch(client).await?;
        let Target {
            schema,
            owner,
            application,
            mover,
        } = &target;
        // As bootstrap and provisioning do it.
        client
            .batch_execute(&format!(
                "drop schema if exists {schema} cascade;
                 create schema {schema} authorization {owner};
                 grant usage on schema {schema} to {application}, {mover};
                 set role {owner};
                 alter default privileges revoke execute on functions from public;
                 alter default privileges grant execute on functions to {application}, {mover};
                 reset role"
            ))
            .await?;
        Ok(target)
    }
}

/// Runs the definitions of these versions in an empty schema, without rows and without a ledger.
///
/// # Errors
///
/// The step that fails, with its file and line.
///
/// # Cancel safety
///
/// Dropping the future leaves the schema half done; throw it away.
pub async fn lay_out<'a>(
    client: &Client,
    target: &Target,
    versions: impl IntoIterator<Item = &'a Version>,
) -> Result<(), ApplyError> {
    let versions: Vec<_> = versions.into_iter().collect();
    migrate::install(client, &versions).await?;
    migrate::lay_out(client, target, &versions).await
}
