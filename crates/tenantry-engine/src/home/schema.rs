//! A tenant's own schema.

use tenantry_core::{Epoch, InstallationId, TenantDatabaseId, TenantId, own_schema_name};
use tenantry_sql::{Identifier, Literal};
use tokio_postgres::{Client, GenericClient, error::SqlState, types::Type};

use super::{HomeError, Outcome};
use crate::{
    fence,
    roles::Roles,
    sql_error::{Doing, SqlError},
};

/// Makes a tenant's own schema in the connected tenant database, owned by the owner role, usable by the application role.
///
/// # Errors
///
/// [`HomeError::NotOurs`] where there is one of its name without this installation's mark for this tenant.
pub async fn create_schema(
    client: &impl GenericClient,
    installation: &InstallationId,
    database: TenantDatabaseId,
    tenant: TenantId,
) -> Result<Outcome, HomeError> {
    let name = Identifier::new(own_schema_name(tenant))?;
    if is_ours(client, installation, tenant, &name).await? {
        return Ok(Outcome::AlreadySo);
    }
    make(client, installation, database, &name, &mark(installation, tenant)).await?;
    Ok(Outcome::Done)
}

/// The same with the tenant's fence, opened at this epoch, in one transaction and one round trip; where there is such a schema
/// already, nothing is done and [`Outcome::AlreadySo`] says that it has to be looked at.
///
/// `lightly`: the commit does not wait for the disk, since another one follows on this connection that does.
///
/// # Errors
///
/// Where a statement fails; nothing is left of the others then.
pub async fn create_schema_and_open(
    client: &Client,
    installation: &InstallationId,
    database: TenantDatabaseId,
    tenant: TenantId,
    epoch: Epoch,
    lightly: bool,
) -> Result<Outcome, HomeError> {
    let name = Identifier::new(own_schema_name(tenant))?;
    let light = if lightly {
        "set local synchronous_commit = off;\n"
    } else {
        ""
    };
    let text = format!(
        "begin;\n{light}{};\n{};\ncommit",
        text(installation, database, &name, &mark(installation, tenant)),
        fence::register_text(tenant, epoch, true)
    );
    match client.batch_execute(&text).await {
        Ok(()) => Ok(Outcome::Done),
        Err(error) if error.code() == Some(&SqlState::DUPLICATE_SCHEMA) => {
            client.batch_execute("rollback").await.doing("roll back")?;
            Ok(Outcome::AlreadySo)
        }
        Err(error) => Err(error).doing("make the tenant's schema").map_err(HomeError::from),
    }
}

/// Makes a schema with that mark.
pub(super) async fn make(
    client: &impl GenericClient,
    installation: &InstallationId,
    database: TenantDatabaseId,
    name: &Identifier,
    mark: &str,
) -> Result<(), SqlError> {
    client
        .batch_execute(&text(installation, database, name, mark))
        .await
        .doing("make a schema")
}

/// One message, hence one transaction: there is no moment without the mark.
fn text(installation: &InstallationId, database: TenantDatabaseId, name: &Identifier, mark: &str) -> String {
    let roles = Roles::of(installation);
    let (owner, mover) = (&roles.owner, &roles.mover);
    let app = Roles::app(installation, database);
    let mark = Literal::new(mark).expect("a mark holds no zero byte");
    format!(
        "create schema {name} authorization {owner};
         comment on schema {name} is {mark};
         grant usage on schema {name} to {app}, {mover}"
    )
}

/// Drops a tenant's own schema with all that is in it, some tables at a time. What was dropped stays dropped where it fails;
/// another call goes on.
///
/// # Errors
///
/// [`HomeError::NotOurs`] where it has not this installation's mark for this tenant.
pub async fn drop_schema(
    client: &impl GenericClient,
    installation: &InstallationId,
    tenant: TenantId,
) -> Result<Outcome, HomeError> {
    let name = Identifier::new(own_schema_name(tenant))?;
    if !is_ours(client, installation, tenant, &name).await? {
        return Ok(Outcome::AlreadySo);
    }
    loop {
        let tables = some_tables(client, &name).await?;
        if tables.is_empty() {
            break;
        }
        client
            .batch_execute(&format!("drop table if exists {} cascade", tables.join(", ")))
            .await
            .doing("drop tables of the tenant's schema")?;
    }
    client
        .batch_execute(&format!("drop schema if exists {name} cascade"))
        .await
        .doing("drop the tenant's schema")?;
    Ok(Outcome::Done)
}

/// Tables dropped in one transaction: each takes a few locks, and the lock table of the whole server holds some thousands.
const TABLES_AT_ONCE: i64 = 50;

/// Partitions first: with their parent they would go all at once.
async fn some_tables(client: &impl GenericClient, schema: &Identifier) -> Result<Vec<String>, HomeError> {
    let rows = client
        .query_typed(
            "select pg_catalog.format('%I.%I', n.nspname, c.relname)
               from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
              where n.nspname = $1 and c.relkind in ('r', 'p')
              order by c.relispartition desc, c.relkind = 'p', c.oid
              limit $2",
            &[(&schema.as_str(), Type::TEXT), (&TABLES_AT_ONCE, Type::INT8)],
        )
        .await
        .doing("list the tables of the tenant's schema")?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// What says that a schema is a tenant's.
pub(crate) fn mark(installation: &InstallationId, tenant: TenantId) -> String {
    format!("{} tenant {tenant}", Roles::mark(installation))
}

/// Whether the schema is there and ours; an error where it is there and not ours.
pub(super) async fn is_ours(
    client: &impl GenericClient,
    installation: &InstallationId,
    tenant: TenantId,
    name: &Identifier,
) -> Result<bool, HomeError> {
    let found = client
        .query_typed_opt(
            "select pg_catalog.obj_description(oid, 'pg_namespace') from pg_catalog.pg_namespace where nspname = $1",
            &[(&name.as_str(), Type::TEXT)],
        )
        .await
        .doing("look for the tenant's schema")?;
    let Some(found) = found else { return Ok(false) };
    if found.get::<_, Option<String>>(0).as_deref() != Some(mark(installation, tenant).as_str()) {
        return Err(HomeError::NotOurs {
            kind: "schema",
            name: name.as_str().to_owned(),
        });
    }
    Ok(true)
}
