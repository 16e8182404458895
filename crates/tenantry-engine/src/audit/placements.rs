//! The catalog's placements against what is there.

use std::collections::HashMap;

use tenantry_core::{Epoch, SHARED_SCHEMA, TenantId};
use tokio_postgres::Client;

use super::{AuditError, Finding, family, ours::is_own_schema};
use crate::sql_error::Doing;

/// A tenant that the catalog places in the database.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Placed {
    /// Who.
    pub tenant: TenantId,
    /// The placement.
    pub epoch: Epoch,
    /// Where its tables stand.
    pub schema: String,
}

/// Where the database and the catalog disagree about who lives there.
///
/// # Errors
///
/// Where the database can't be asked.
pub async fn placements(client: &Client, placed: &[Placed]) -> Result<Vec<Finding>, AuditError> {
    let mut found = fences(client, placed).await?;
    found.extend(schemas(client, placed).await?);
    Ok(found)
}

fn mismatch(object: impl Into<String>, message: impl Into<String>, mend: impl Into<String>) -> Finding {
    Finding::new("MT102", object, message, mend)
}

async fn fences(client: &Client, placed: &[Placed]) -> Result<Vec<Finding>, AuditError> {
    let tenants: Vec<uuid::Uuid> = placed.iter().map(|placed| *placed.tenant.as_uuid()).collect();
    let rows = client
        .query(
            "select t.tenant, f.epoch, f.state from pg_catalog.unnest($1::uuid[]) as t (tenant),
                    lateral tenantry.fence_state(t.tenant) as f",
            &[&tenants],
        )
        .await
        .doing("read the fences of the catalog's tenants")?;
    let placed: HashMap<TenantId, &Placed> = placed.iter().map(|placed| (placed.tenant, placed)).collect();
    let mut found = Vec::new();
    for row in rows {
        let tenant = TenantId::from_uuid(row.get(0));
        let (epoch, state): (Option<i64>, Option<i16>) = (row.get(1), row.get(2));
        let Some(placed) = placed.get(&tenant) else { continue };
        let (object, Epoch(expected)) = (format!("tenant {tenant}"), placed.epoch);
        match (epoch, state) {
            (None, _) => found.push(mismatch(
                object,
                "the catalog places it here, and the database has no fence for it",
                format!("select tenantry.fence_register('{tenant}', {expected}, 0)"),
            )),
            (Some(epoch), _) if epoch != expected => found.push(mismatch(
                object,
                format!("its placement is {expected} in the catalog and {epoch} in the database"),
                "find out which is right: an operation that was cut off goes on with a running tenantry serve",
            )),
            (_, Some(2)) => found.push(mismatch(
                object,
                "the catalog places it here, and its fence says that it has gone",
                format!("select tenantry.fence_open('{tenant}', {expected})"),
            )),
            _ => {}
        }
    }
    Ok(found)
}

async fn schemas(client: &Client, placed: &[Placed]) -> Result<Vec<Finding>, AuditError> {
    let rows = client
        .query("select nspname::text from pg_catalog.pg_namespace order by 1", &[])
        .await
        .doing("list the schemas")?;
    let there: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    let missing = placed
        .iter()
        .filter(|placed| !there.contains(&placed.schema))
        .map(|placed| {
            mismatch(
                format!("tenant {}", placed.tenant),
                format!(
                    "the catalog places it in the schema {}, which is not there",
                    placed.schema
                ),
                "restore it from a backup",
            )
        });
    let stray = there
        .iter()
        .filter(|schema| is_own_schema(schema) && *schema != SHARED_SCHEMA)
        .filter(|schema| placed.iter().all(|placed| placed.schema != **schema))
        .map(|schema| {
            mismatch(
                schema.as_str(),
                "it looks like a tenant's, and the catalog places nobody there",
                format!("drop schema {} cascade, once nobody misses it", family::name(schema)),
            )
        });
    Ok(missing.chain(stray).collect())
}
