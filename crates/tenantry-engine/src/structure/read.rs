//! Reads a placement's structure: one query over the catalogs, however many tables there are.

use serde_json::Value;
use tenantry_core::TenantId;
use tokio_postgres::{Client, Row, types::Type};

use super::fact::{Key, Structure};
use crate::{
    migrate::{self, Target},
    sql_error::{Doing as _, SqlError},
};

const QUERY: &str = include_str!("structure.sql");

/// Stands for the tenant's id in what is compared.
pub(super) const TENANT: &str = "@tenant";

/// The versions of one schema, lowest first, with the checksums of their files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledger {
    /// The fleet's.
    pub versions: Vec<(i64, String)>,
    /// The tenant's own.
    pub overlay: Vec<(i64, String)>,
}

/// What one schema of the connected database holds. `tenant` is whose schema it is, if it is one tenant's own: its id is
/// no difference, another tenant's would be.
///
/// # Errors
///
/// The database's, among them that the schema is not there.
///
/// # Cancel safety
///
/// Dropping the future may leave a transaction open that has only read; close the connection.
pub async fn read(client: &Client, target: &Target, tenant: Option<TenantId>) -> Result<Structure, SqlError> {
    // As the owner: a schema that one may not use is left out of the search path, and its names would stand qualified.
    let head = format!(
        "begin read only; set local role {}; set local search_path = {}, tenantry_ext",
        target.owner, target.schema
    );
    let rows = async {
        client.batch_execute(&head).await?;
        let schema = target.schema.to_string();
        client
            .query_typed(
                QUERY,
                &[
                    (&schema, Type::TEXT),
                    (&target.owner.as_str(), Type::TEXT),
                    (&target.application.as_str(), Type::TEXT),
                    (&target.mover.as_str(), Type::TEXT),
                ],
            )
            .await
    };
    let rows = rows.await;
    client
        .batch_execute("rollback")
        .await
        .doing("end reading a schema's structure")?;
    let rows = rows.doing("read a schema's structure")?;
    let tenant = tenant.map(|tenant| tenant.as_uuid().to_string());
    Ok(Structure {
        facts: rows.iter().filter_map(|row| fact(row, tenant.as_deref())).collect(),
    })
}

/// The versions that the schema's ledger names.
///
/// # Errors
///
/// The database's.
pub async fn read_ledger(client: &Client, target: &Target) -> Result<Ledger, SqlError> {
    let rows = client
        .query_typed(
            "select version, checksum, schema = $2 from tenantry_private.migration
              where schema in ($1, $2)
              order by version",
            &[
                (&target.schema.as_str(), Type::TEXT),
                (&migrate::overlay_name(target.schema.as_str()), Type::TEXT),
            ],
        )
        .await
        .doing("read a schema's ledger")?;
    let mut ledger = Ledger::default();
    for row in rows {
        let of_its_own: bool = row.get(2);
        let versions = if of_its_own {
            &mut ledger.overlay
        } else {
            &mut ledger.versions
        };
        versions.push((row.get(0), row.get(1)));
    }
    Ok(ledger)
}

fn fact(row: &Row, tenant: Option<&str>) -> Option<(Key, Value)> {
    let word = |at: usize| Value::String(row.get(at));
    let key = Key {
        class: serde_json::from_value(word(0)).ok()?,
        object: row.get(1),
        fact: serde_json::from_value(word(2)).ok()?,
        name: row.get(3),
    };
    let value: Value = row.get(4);
    Some((
        key,
        match tenant {
            Some(tenant) => without(value, tenant),
            None => value,
        },
    ))
}

fn without(value: Value, tenant: &str) -> Value {
    match value {
        Value::String(text) => Value::String(text.replace(tenant, TENANT)),
        Value::Array(values) => values.into_iter().map(|value| without(value, tenant)).collect(),
        Value::Object(fields) => fields
            .into_iter()
            .map(|(name, value)| (name, without(value, tenant)))
            .collect(),
        other => other,
    }
}
