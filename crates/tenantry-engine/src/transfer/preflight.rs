//! What would be in the way of a transfer: all of it, before anything is made.

use std::collections::BTreeSet;

use tenantry_core::{InstallationId, TenantId};
use tokio_postgres::Client;

use super::{Table, copy::unqualified, may_transfer, tables};
use crate::{
    migrate::Target,
    sql_error::{Doing, SqlError},
    structure,
};

/// Objects that are named where structures differ.
const NAMED_MAX: usize = 5;

/// Something in the way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Obstacle {
    /// A word for programs.
    pub code: &'static str,
    /// What it is.
    pub what: String,
    /// What to do about it.
    pub mend: String,
}

impl Obstacle {
    /// Something in the way, and what to do about it.
    pub fn new(code: &'static str, what: impl Into<String>, mend: impl Into<String>) -> Self {
        Self {
            code,
            what: what.into(),
            mend: mend.into(),
        }
    }
}

/// The two sides of a transfer, as far as they are there.
#[derive(Clone, Copy, Debug)]
pub struct Sides<'a> {
    /// To the database where the tenant lives.
    pub source: &'a Client,
    /// The schema there.
    pub source_schema: &'a Target,
    /// Whose schema it is, if it is one tenant's own.
    pub source_tenant: Option<TenantId>,
    /// To the database where it goes; to any other of the same server where its own is made first.
    pub target: &'a Client,
    /// A schema there of the fleet's newest version: the one where it goes, or one that looks the same.
    pub target_schema: &'a Target,
    /// Whether the tenant goes to another schema of the same database.
    pub same_database: bool,
    /// Whether the source has migrations of the tenant's own, which the other schema lacks.
    pub has_overlay: bool,
}

/// What is in the way, as far as the two databases show it.
///
/// Keys can't clash: each begins with the tenant's id. No index is needed to delete the old rows either, since no foreign key is
/// checked then.
///
/// # Errors
///
/// Where a database can't be asked.
///
/// # Cancel safety
///
/// It only reads; drop both connections.
pub async fn obstacles(sides: Sides<'_>, installation: &InstallationId) -> Result<Vec<Obstacle>, SqlError> {
    let mut found = rights(sides, installation).await?;
    found.extend(versions(sides).await?);
    if !sides.has_overlay {
        found.extend(structures(sides).await?);
    }
    found.extend(numbers_of_objects(sides).await?);
    if !sides.same_database {
        found.extend(extensions(sides).await?);
        found.extend(encodings(sides).await?);
    }
    Ok(found)
}

async fn rights(sides: Sides<'_>, installation: &InstallationId) -> Result<Vec<Obstacle>, SqlError> {
    let mut found = Vec::new();
    for (client, which) in [(sides.source, "old"), (sides.target, "new")] {
        if !may_transfer(client, installation).await? {
            found.push(Obstacle::new(
                "administrator",
                format!("the administrator of the {which} home's server may not move tenants"),
                "give `tenantry server set` the address of a superuser",
            ));
        }
    }
    Ok(found)
}

async fn versions(sides: Sides<'_>) -> Result<Option<Obstacle>, SqlError> {
    let here = structure::read_ledger(sides.source, sides.source_schema).await?;
    let there = structure::read_ledger(sides.target, sides.target_schema).await?;
    if here.versions == there.versions {
        return Ok(None);
    }
    let newest = |ledger: &structure::Ledger| ledger.versions.last().map_or(0, |(version, _)| *version);
    Ok(Some(Obstacle::new(
        "versions",
        format!(
            "the tenant's tables have version {} and the new home's have {}",
            newest(&here),
            newest(&there)
        ),
        "bring both to the newest version: tenantry migrate apply",
    )))
}

async fn structures(sides: Sides<'_>) -> Result<Option<Obstacle>, SqlError> {
    if release(sides.source).await? != release(sides.target).await? {
        return columns(sides).await;
    }
    let here = structure::read(sides.source, sides.source_schema, sides.source_tenant).await?;
    let there = structure::read(sides.target, sides.target_schema, None).await?;
    let differences = structure::compare(&here, &there, sides.source_schema, sides.source_tenant);
    Ok(differ(differences.into_iter().map(|difference| difference.object)))
}

/// Releases of PostgreSQL describe the same tables differently in their catalogs; between two of them what is copied is compared: tables,
/// and columns with their types.
async fn columns(sides: Sides<'_>) -> Result<Option<Obstacle>, SqlError> {
    let here = tables(sides.source, &sides.source_schema.schema).await?;
    let there = tables(sides.target, &sides.target_schema.schema).await?;
    let of = |found: &[Table]| -> BTreeSet<(String, String)> {
        let columns = found
            .iter()
            .flat_map(|table| table.columns.iter().map(move |column| (table, column)));
        columns
            .map(|(table, column)| {
                let name = format!("{}.{}", table.name, column.name);
                (name, unqualified(&column.kind).to_owned())
            })
            .collect()
    };
    let (here, there) = (of(&here), of(&there));
    // One whose type differs is on both sides.
    let names: BTreeSet<String> = here
        .symmetric_difference(&there)
        .map(|(name, _)| name.clone())
        .collect();
    Ok(differ(names.into_iter()))
}

fn differ(mut objects: impl ExactSizeIterator<Item = String>) -> Option<Obstacle> {
    let mut named: Vec<_> = objects.by_ref().take(NAMED_MAX).collect();
    if named.is_empty() {
        return None;
    }
    match objects.len() {
        0 => {}
        more => named.push(format!("{more} more")),
    }
    Some(Obstacle::new(
        "structure",
        format!("the tenant's tables differ from the new home's: {}", named.join(", ")),
        "tenantry migrate verify --repair",
    ))
}

async fn release(client: &Client) -> Result<i32, SqlError> {
    let row = client
        .query_one(
            "select pg_catalog.current_setting('server_version_num')::pg_catalog.int4 / 10000",
            &[],
        )
        .await
        .doing("ask for the server's version")?;
    Ok(row.get(0))
}

/// Columns whose values mean something in their database only.
async fn numbers_of_objects(sides: Sides<'_>) -> Result<Vec<Obstacle>, SqlError> {
    let row = sides
        .source
        .query_one("select exists (select from pg_catalog.pg_largeobject_metadata)", &[])
        .await
        .doing("look for large objects")?;
    let has_large_objects: bool = row.get(0);
    let mut found = Vec::new();
    for table in tables(sides.source, &sides.source_schema.schema).await? {
        for column in &table.columns {
            let name = format!("{}.{}", table.name, column.name);
            let kind = column.kind.trim_end_matches("[]");
            if has_large_objects && (kind == "oid" || kind.ends_with(".lo") || kind == "lo") {
                found.push(Obstacle::new(
                    "large-objects",
                    format!("{name} may name large objects, which belong to a database and not to a tenant"),
                    "keep what they hold in a column of type bytea, or in files",
                ));
            }
            if sides.same_database && kind.starts_with("reg") {
                found.push(Obstacle::new(
                    "object-numbers",
                    format!(
                        "{name} ({}) holds numbers of objects, which would go on meaning those of the old home",
                        column.kind
                    ),
                    "keep names in a column of type text",
                ));
            }
        }
    }
    Ok(found)
}

async fn extensions(sides: Sides<'_>) -> Result<Vec<Obstacle>, SqlError> {
    let used = sides
        .source
        .query(
            "select extname::pg_catalog.text from pg_catalog.pg_extension where extname <> 'plpgsql' order by 1",
            &[],
        )
        .await
        .doing("list the extensions")?;
    let used: Vec<String> = used.iter().map(|row| row.get(0)).collect();
    let lacking = sides
        .target
        .query(
            "select u from pg_catalog.unnest($1::pg_catalog.text[]) as u
              where not exists (select from pg_catalog.pg_available_extensions a where a.name = u)
              order by 1",
            &[&used],
        )
        .await
        .doing("list the extensions of the new home's server")?;
    Ok(lacking
        .iter()
        .map(|row| row.get::<_, String>(0))
        .map(|name| {
            Obstacle::new(
                "extension",
                format!("the new home's server does not have the extension {name}"),
                format!("install the package with {name} on that server"),
            )
        })
        .collect())
}

async fn encodings(sides: Sides<'_>) -> Result<Option<Obstacle>, SqlError> {
    let (here, there) = (encoding(sides.source).await?, encoding(sides.target).await?);
    Ok((here != there).then(|| {
        Obstacle::new(
            "encoding",
            format!("the tenant's database stores text as {here} and the new home's as {there}"),
            "choose a server whose databases have the same encoding",
        )
    }))
}

async fn encoding(client: &Client) -> Result<String, SqlError> {
    let row = client
        .query_one("select pg_catalog.current_setting('server_encoding')", &[])
        .await
        .doing("ask for the encoding")?;
    Ok(row.get(0))
}
