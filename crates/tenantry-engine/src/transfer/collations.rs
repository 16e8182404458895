//! Whether text is compared alike in both homes.
//!
//! Indexes are built where the rows arrive, so that none is out of order there. What differs is the order in which a query gives rows; and,
//! where a collation takes texts for equal that differ in their bytes, which rows a unique index lets in.

use std::collections::BTreeMap;

use tenantry_sql::Identifier;
use tokio_postgres::{Client, Row, types::Type};

use super::Obstacle;
use crate::sql_error::{Doing, SqlError};

const COLLATIONS: &str = include_str!("collations/read.sql");

/// What follows from collations that differ.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Collations {
    /// Where rows of the old home may be refused in the new one.
    pub obstacles: Vec<Obstacle>,
    /// Where they come in another order, as sentences.
    pub notes: Vec<String>,
}

/// A collation of one side.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Side {
    /// Provider, locale, rules, and the version of the library that the server has now.
    means: String,
    /// Whether texts that differ may be equal.
    is_loose: bool,
    /// Of a unique or excluding index that uses it: its name.
    unique: Option<String>,
}

/// Compares the collations that the tables of a schema use with those of the same name at the other home.
///
/// # Errors
///
/// Where a database can't be asked.
///
/// # Cancel safety
///
/// It only reads.
pub async fn collations(
    source: (&Client, &Identifier),
    target: (&Client, &Identifier),
) -> Result<Collations, SqlError> {
    let (here, there) = (read(source.0, source.1).await?, read(target.0, target.1).await?);
    let mut found = Collations::default();
    for (name, old) in here {
        // One that the tables there do not use is a difference of structure, which is told as one.
        let Some(new) = there.get(&name) else { continue };
        if old.means == new.means {
            continue;
        }
        match (&old.unique, old.is_loose || new.is_loose) {
            (Some(index), true) => found.obstacles.push(Obstacle::new(
                "collation",
                format!(
                    "the collation {name} is {} at the old home and {} at the new one, so that {index} may take rows for equal there \
                     that it tells apart here",
                    old.means, new.means
                ),
                "choose a server with the same library and version, or a deterministic collation for what is unique",
            )),
            _ => found.notes.push(format!(
                "text is ordered otherwise at the new home: {name} is {} at the old one and {} there; its indexes are built there, and lists \
                 may come in another order",
                old.means, new.means
            )),
        }
    }
    Ok(found)
}

async fn read(client: &Client, schema: &Identifier) -> Result<BTreeMap<String, Side>, SqlError> {
    let rows = client
        .query_typed(COLLATIONS, &[(&schema.as_str(), Type::TEXT)])
        .await
        .doing("read the collations of the tables")?;
    let named = |row: &Row| {
        let side = Side {
            means: row.get(1),
            is_loose: row.get(2),
            unique: row.get(3),
        };
        (row.get::<_, String>(0), side)
    };
    Ok(rows.iter().map(named).collect())
}
