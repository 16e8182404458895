//! Which migrations a placement has: rows beside its tables, written in the transaction of the migration itself.
//!
//! Bootstrap makes its tables.

use std::collections::BTreeMap;

use tokio_postgres::{Client, Error, types::Type};

/// Under which name a schema's own files stand in the ledger: apart from the fleet's.
const OVERLAY: &str = "/overlay";

/// The name of a version's ledger.
pub(super) fn name(schema: &str, overlay: bool) -> String {
    if overlay {
        overlay_name(schema)
    } else {
        schema.to_owned()
    }
}

/// The name of the ledger of one tenant's own files; no schema has it.
#[must_use]
pub fn overlay_name(schema: &str) -> String {
    format!("{schema}{OVERLAY}")
}

/// A row of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppliedVersion {
    /// Its number.
    pub version: i64,
    /// The file's name when it was applied.
    pub name: String,
    /// SHA-256 of its text when it was applied.
    pub checksum: String,
    /// The engine that derived its steps.
    pub engine_version: String,
    /// How long it took.
    pub duration_ms: i64,
    /// When it was done.
    pub applied_at: chrono::DateTime<chrono::Utc>,
}

/// The placement's rows, by version.
pub(crate) async fn read(client: &Client, schema: &str) -> Result<BTreeMap<i64, AppliedVersion>, Error> {
    let rows = client
        .query_typed(
            "select version, name, checksum, engine_version, duration_ms, applied_at
               from tenantry_private.migration
              where schema = $1
              order by version",
            &[(&schema, Type::TEXT)],
        )
        .await?;
    Ok(rows
        .into_iter()
        .map(|row| AppliedVersion {
            version: row.get(0),
            name: row.get(1),
            checksum: row.get(2),
            engine_version: row.get(3),
            duration_ms: row.get(4),
            applied_at: row.get(5),
        })
        .map(|row| (row.version, row))
        .collect())
}

/// What every placement of the database has: schema, version, name and checksum.
///
/// # Errors
///
/// The database's.
pub async fn read_all(client: &Client) -> Result<Vec<(String, i64, String, String)>, Error> {
    let rows = client
        .query(
            "select schema, version, name, checksum from tenantry_private.migration order by schema, version",
            &[],
        )
        .await?;
    Ok(rows
        .into_iter()
        .map(|row| (row.get(0), row.get(1), row.get(2), row.get(3)))
        .collect())
}

/// A row of some placement's ledger with the time that it took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimedVersion {
    /// Whose ledger: the schema; of one tenant's own files as well.
    pub schema: String,
    /// Whether it is one of the tenant's own files.
    pub overlay: bool,
    /// Its number.
    pub version: i64,
    /// The file's name when it was applied.
    pub name: String,
    /// How long it took; nothing where the home was made with it, all versions at once.
    pub duration_ms: Option<i64>,
    /// When it was done.
    pub applied_at: chrono::DateTime<chrono::Utc>,
}

/// The ledgers of every placement of the database, or of these schemas only, the fleet's versions before a tenant's own.
///
/// # Errors
///
/// The database's.
pub async fn read_timed(client: &Client, schemas: Option<&[String]>) -> Result<Vec<TimedVersion>, Error> {
    let ledgers: Option<Vec<String>> = schemas.map(|schemas| {
        let both = schemas.iter().flat_map(|schema| [schema.clone(), overlay_name(schema)]);
        both.collect()
    });
    let rows = client
        .query(
            "select split_part(schema, '/', 1), schema like '%/overlay', version, name, nullif(duration_ms, 0)::bigint, applied_at
               from tenantry_private.migration
              where $1::text[] is null or schema = any($1)
              order by 1, 2, 3",
            &[&ledgers],
        )
        .await?;
    Ok(rows
        .into_iter()
        .map(|row| TimedVersion {
            schema: row.get(0),
            overlay: row.get(1),
            version: row.get(2),
            name: row.get(3),
            duration_ms: row.get(4),
            applied_at: row.get(5),
        })
        .collect())
}

/// Forgets a placement that is dropped; a schema of the same name starts over.
///
/// # Errors
///
/// The database's.
pub async fn forget(client: &Client, schema: &str) -> Result<(), Error> {
    for statement in [
        "delete from tenantry_private.migration where schema = $1",
        "delete from tenantry_private.migration_step where schema = $1",
        "delete from tenantry_private.migration_tenant where schema = $1",
    ] {
        for ledger in [schema.to_owned(), overlay_name(schema)] {
            client.execute(statement, &[&ledger]).await?;
        }
    }
    Ok(())
}
