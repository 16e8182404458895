//! Schemas made in advance: the next tenant that wants one of its own gets it by a rename.
//!
//! A spare belongs to nobody: it has our mark, a name of its own and the application's tables, and no tenant's fence. All that is
//! known of it stands in its database, so that handing it out is one transaction there, and a process that dies leaves a
//! spare or a tenant's schema and nothing in between.

use tenantry_core::{InstallationId, TenantDatabaseId, TenantId, own_schema_name};
use tenantry_sql::{Identifier, Literal};
use tokio_postgres::{Client, GenericClient, types::Type};
use uuid::Uuid;

use super::{HomeError, schema};
use crate::{
    roles::Roles,
    sql_error::{Doing, SqlError},
};

/// How the names of spares begin.
pub const SPARE_PREFIX: &str = "spare_";

/// Whoever makes spares in a database holds this advisory lock there; the number is arbitrary and never changes.
const MAKING: i64 = 0x7370_6172_655f_6d61;

/// A schema that waits for its tenant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Spare {
    /// Its name.
    pub schema: String,
    /// The migrations it has, as [`ledger_text`](crate::migrate::ledger_text) writes them.
    pub ledger: String,
}

/// Whether this session may make and drop spares in the connected database: one does at a time, for as long as it lives.
///
/// # Errors
///
/// Where the database can't be asked.
pub async fn may_make_spares(client: &Client) -> Result<bool, SqlError> {
    let row = client
        .query_typed("select pg_catalog.pg_try_advisory_lock($1)", &[(&MAKING, Type::INT8)])
        .await
        .doing("ask for the turn to make spares")?;
    Ok(row.first().is_some_and(|row| row.get(0)))
}

/// The spares of the connected database, the oldest first.
///
/// # Errors
///
/// Where the database can't be asked.
pub async fn list_spares(client: &impl GenericClient, installation: &InstallationId) -> Result<Vec<Spare>, SqlError> {
    let rows = client
        .query_typed(LIST, &[(&mark(installation), Type::TEXT)])
        .await
        .doing("list the spare schemas")?;
    Ok(rows
        .into_iter()
        .map(|row| Spare {
            schema: row.get(0),
            ledger: row.get(1),
        })
        .collect())
}

/// Their names tell when they were made.
const LIST: &str = "select n.nspname::text,
        coalesce((select pg_catalog.string_agg(m.version || ' ' || m.checksum, ',' order by m.version)
                    from tenantry_private.migration m where m.schema = n.nspname), '') as ledger
   from pg_catalog.pg_namespace n
  where pg_catalog.starts_with(n.nspname::text, 'spare_') and pg_catalog.obj_description(n.oid, 'pg_namespace') = $1
  order by 1";

/// Makes an empty one and gives its name; migrations bring its tables.
///
/// # Errors
///
/// Where a statement fails.
pub async fn create_spare(
    client: &impl GenericClient,
    installation: &InstallationId,
    database: TenantDatabaseId,
) -> Result<Identifier, HomeError> {
    let name = Identifier::new(format!("{SPARE_PREFIX}{}", Uuid::now_v7().simple()))?;
    schema::make(client, installation, database, &name, &mark(installation)).await?;
    Ok(name)
}

/// Gives a spare with exactly these migrations to a tenant that has no schema yet; `false` where there is none, and the schema
/// has to be made.
///
/// Belongs in a transaction, together with what else makes the tenant's home: until it ends, nobody else gets that spare.
///
/// # Errors
///
/// [`HomeError::NotOurs`] where the tenant's schema exists and is not ours, and where a statement fails.
pub async fn take_spare(
    client: &impl GenericClient,
    installation: &InstallationId,
    tenant: TenantId,
    ledger: &str,
) -> Result<bool, HomeError> {
    let own = Identifier::new(own_schema_name(tenant))?;
    if schema::is_ours(client, installation, tenant, &own).await? {
        return Ok(false);
    }
    for spare in list_spares(client, installation).await? {
        if spare.ledger == ledger && hold(client, &spare.schema).await? {
            give(client, installation, tenant, &spare.schema, &own).await?;
            return Ok(true);
        }
    }
    Ok(false)
}

/// Keeps others from a spare until the transaction ends, unless another has it or had it.
async fn hold(client: &impl GenericClient, spare: &str) -> Result<bool, SqlError> {
    // One after the other: whether the name is still there is asked under the lock.
    for question in [
        "select pg_catalog.pg_try_advisory_xact_lock(pg_catalog.hashtextextended($1, 0))",
        "select pg_catalog.to_regnamespace($1) is not null",
    ] {
        let row = client
            .query_typed(question, &[(&spare, Type::TEXT)])
            .await
            .doing("hold a spare schema")?;
        if !row.first().is_some_and(|row| row.get(0)) {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn give(
    client: &impl GenericClient,
    installation: &InstallationId,
    tenant: TenantId,
    spare: &str,
    own: &Identifier,
) -> Result<(), HomeError> {
    let name = Identifier::new(spare)?;
    let literal = |text: &str| Literal::new(text).expect("neither a mark nor a name of ours holds a zero byte");
    let (from, to) = (literal(spare), literal(own.as_str()));
    let mark = literal(&schema::mark(installation, tenant));
    let mut text = format!("alter schema {name} rename to {own}; comment on schema {own} is {mark}");
    for table in ["migration", "migration_step", "migration_tenant"] {
        text.push_str(&format!(
            "; update tenantry_private.{table} set schema = {to} where schema = {from}"
        ));
    }
    client.batch_execute(&text).await.doing("hand a spare schema out")?;
    Ok(())
}

/// Drops one that nobody takes at this moment; whether it did.
///
/// # Errors
///
/// Where a statement fails.
pub async fn drop_spare(client: &mut Client, installation: &InstallationId, spare: &str) -> Result<bool, HomeError> {
    let transaction = client.transaction().await.doing("begin")?;
    let is_there = list_spares(&transaction, installation).await?;
    if !is_there.iter().any(|there| there.schema == spare) || !hold(&transaction, spare).await? {
        return Ok(false);
    }
    let name = Identifier::new(spare)?;
    transaction
        .batch_execute(&format!("drop schema {name} cascade"))
        .await
        .doing("drop a spare schema")?;
    for table in ["migration", "migration_step", "migration_tenant"] {
        let statement = format!("delete from tenantry_private.{table} where schema = $1");
        transaction
            .execute_typed(&statement, &[(&spare, Type::TEXT)])
            .await
            .doing("forget a spare schema's migrations")?;
    }
    transaction.commit().await.doing("commit")?;
    Ok(true)
}

fn mark(installation: &InstallationId) -> String {
    format!("{} spare", Roles::mark(installation))
}
