//! A tenant's rows in shared tables.

use tenantry_core::{InstallationId, TenantId};
use tenantry_sql::Literal;
use tokio_postgres::{Client, error::SqlState};

use super::HomeError;
use crate::{
    roles::Roles,
    sql_error::{Doing, SqlError},
};

/// Rows per transaction: locks and write-ahead log stay small beside the tenants that are in use.
const BATCH: u32 = 5_000;
/// Where each transaction lifts the fence and puts it back, which makes every session plan anew.
const BATCH_LIFTED: u32 = 50_000;

/// In which role a tenant's rows are read and written by the administrator.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Acting {
    /// As the mover, past row security and without the application's triggers.
    Mover,
    /// As the owner, in the tenant's context: an administrator who is no superuser may not act as the mover.
    Owner,
}

/// Deletes all rows of a tenant from the isolated tables of a schema, in batches, children before their parents. Tells how
/// many. The application's triggers do not run where the server allows that.
///
/// The tenant must be fenced off as suspended: nobody may add rows meanwhile.
///
/// # Errors
///
/// Where a statement fails; what was deleted stays deleted, and another call goes on.
///
/// # Cancel safety
///
/// Dropped, the open batch is rolled back with the connection.
pub async fn delete_rows(
    client: &Client,
    installation: &InstallationId,
    schema: &str,
    tenant: TenantId,
) -> Result<u64, HomeError> {
    let mut tables = tables(client, schema).await?;
    let acting = acting(client, installation).await?;
    let mut deleted = 0;
    while !tables.is_empty() {
        let mut held_back = Vec::new();
        let before = tables.len();
        let mut last_refusal = None;
        for table in tables {
            match empty(client, installation, &table, tenant, acting).await {
                Ok(rows) => deleted += rows,
                Err(error) if error.code() == Some(SqlState::FOREIGN_KEY_VIOLATION.code()) => {
                    last_refusal = Some(error);
                    held_back.push(table);
                }
                Err(error) => return Err(error.into()),
            }
        }
        // A circle of foreign keys that nothing can break from outside.
        if let Some(error) = last_refusal.filter(|_| held_back.len() == before) {
            return Err(error.into());
        }
        tables = held_back;
    }
    Ok(deleted)
}

/// The isolated tables, quoted, those that refer to others first. Partitions are reached through their parent.
async fn tables(client: &Client, schema: &str) -> Result<Vec<String>, SqlError> {
    let rows = client
        .query(
            "select pg_catalog.format('%I.%I', n.nspname, c.relname)
               from pg_catalog.pg_class as c
               join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
               join pg_catalog.pg_attribute as a on a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped
              where n.nspname = $1 and c.relkind in ('r', 'p') and not c.relispartition
              order by (select count(*) from pg_catalog.pg_constraint as f where f.confrelid = c.oid and f.contype = 'f'),
                       c.relname",
            &[&schema],
        )
        .await
        .doing("list the shared tables")?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// What the administrator may act as.
pub(crate) async fn acting(client: &Client, installation: &InstallationId) -> Result<Acting, SqlError> {
    let mover = Roles::of(installation).mover;
    let row = client
        .query_one(
            "select pg_catalog.pg_has_role($1, 'member')
                and pg_catalog.has_parameter_privilege($1, 'session_replication_role', 'set')
                and (select rolbypassrls from pg_catalog.pg_roles where rolname = $1)",
            &[&mover.as_str()],
        )
        .await
        .doing("read the mover's rights")?;
    Ok(if row.get(0) { Acting::Mover } else { Acting::Owner })
}

async fn empty(
    client: &Client,
    installation: &InstallationId,
    table: &str,
    tenant: TenantId,
    acting: Acting,
) -> Result<u64, SqlError> {
    let Roles { mover, owner, .. } = Roles::of(installation);
    let tenant = Literal::new(tenant.to_string()).expect("a uuid holds no zero byte");
    let (batch, begin, commit) = match acting {
        Acting::Mover => (
            BATCH,
            format!("set local role {mover}; set local session_replication_role = replica"),
            "commit".to_owned(),
        ),
        Acting::Owner => (
            BATCH_LIFTED,
            format!(
                "select tenantry_private.act_for({tenant}); select pg_catalog.set_config('tenantry.unnoted', 'on', true);
                 set local role {owner}"
            ),
            format!("set local role none; select tenantry_private.act_done({tenant}); commit"),
        ),
    };
    let begin = format!("begin; set local lock_timeout = '10s'; {begin}");
    // The tenant is named twice: a ctid is unique within one partition only.
    let delete = format!(
        "delete from {table} where tenant_id = {tenant}
            and ctid = any (array(select ctid from {table} where tenant_id = {tenant} limit {batch}))"
    );
    let mut deleted = 0;
    loop {
        let one = async {
            client.batch_execute(&begin).await?;
            let rows = client.execute(&delete, &[]).await?;
            client.batch_execute(&commit).await?;
            Ok(rows)
        };
        match one.await {
            Ok(0) => return Ok(deleted),
            Ok(rows) => deleted += rows,
            Err(error) => {
                // Where this fails too the connection is gone, and the transaction with it.
                let _ = client.batch_execute("rollback").await;
                return Err(error).doing("delete the tenant's rows");
            }
        }
    }
}
