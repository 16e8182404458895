//! Both sides at one position, row for row, while the source is written and the stream goes on.
//!
//! A slot that is made for the look gives a snapshot of the source together with its position; the applier goes exactly as far,
//! and the target is looked at then. So a difference is one, and not a matter of when. Nothing here relies on what the applier
//! believes to have done.
//!
//! Rows are told apart by 60 bits of a hash of what PostgreSQL sends of them: by its own function between servers of one build, otherwise
//! by MD5, which is the same on every version; and without an order, which two servers with other collations would not agree on. They
//! are counted and summed up in [`BUCKETS`] by their first bits; only buckets that differ are looked into.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tenantry_core::TenantId;
use tenantry_sql::{Identifier, Literal, Qualified, TENANT_COLUMN};
use tenantry_wire::{Endpoint, replication::Lsn};
use tokio_postgres::Client;

use super::{
    super::{end::FORMATS, verify::Digest},
    Applier, Plan, StreamError, Until, snapshot_beside,
};
use crate::sql_error::{Doing, SqlError};

/// How many parts a table is summed up in: a difference in a table of a million rows is found among a thousand.
const BUCKETS: u32 = 1 << BUCKET_BITS;
const BUCKET_BITS: u32 = 10;
/// How many bits of a row's hash are used, so that a bigint holds them with its sign.
const HASH_BITS: u32 = 60;
const HASH_MASK: i64 = (1 << HASH_BITS) - 1;
/// Types whose values have one binary form each, the same in every database: writing them as text takes longer than to hash it.
/// Floats are none of them, since what is not a number has several forms and one text.
const SENT: [&str; 15] = [
    "boolean",
    "smallint",
    "integer",
    "bigint",
    "numeric",
    "text",
    "character varying",
    "character",
    "bytea",
    "uuid",
    "date",
    "time",
    "timestamp",
    "timestamptz",
    "jsonb",
];
/// How many buckets are looked into at once.
const BUCKETS_AT_ONCE: usize = 16;

/// Both sides in transactions that see the same moment. It ends with the connections.
#[derive(Debug)]
pub struct Pair {
    source: Client,
    target: Client,
    position: Lsn,
    tenant: TenantId,
    source_schema: String,
    target_schema: String,
}

impl Pair {
    /// The moment: what was committed at the source before.
    pub fn position(&self) -> Lsn {
        self.position
    }
}

/// What a comparison found.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Compared {
    /// Every table, by name.
    pub tables: Vec<TableCompared>,
    /// Rows that differ, as many as were asked for.
    pub differences: Vec<Difference>,
}

impl Compared {
    /// Whether both sides are the same.
    pub fn is_same(&self) -> bool {
        self.tables.iter().all(|table| table.same) && self.differences.is_empty()
    }
}

/// A table on both sides.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TableCompared {
    /// Its plain name.
    pub table: String,
    /// The source's rows.
    pub source_rows: i64,
    /// The target's rows.
    pub target_rows: i64,
    /// The sum of the source's hashes: for a certificate.
    pub checksum: String,
    /// Both sides have the same rows.
    pub same: bool,
}

/// A row that is not the same on both sides.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    /// The table's plain name.
    pub table: String,
    /// The row's primary key, as PostgreSQL writes a row.
    pub key: String,
    /// How it differs.
    pub way: Way,
}

/// How a row differs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Way {
    /// Only the source has it.
    Missing,
    /// Only the target has it.
    Extra,
    /// Its values differ.
    Changed,
}

/// Brings both sides to one moment and begins to look at them. `source` and `target` are connections of their own of the mover;
/// the applier can go on as soon as this returns, and keeps which rows it writes from there on.
///
/// # Errors
///
/// As [`Applier::run`] and [`super::make_slot`].
///
/// # Cancel safety
///
/// Dropped, the applier may not be usable any more; nothing else is left.
pub async fn pair(
    endpoint: Arc<Endpoint>,
    source: Client,
    target: Client,
    applier: &mut Applier,
    patience: Duration,
) -> Result<Pair, StreamError> {
    let plan = applier.plan().clone();
    let snapshot = snapshot_beside(endpoint, &plan.name, patience).await?;
    snapshot.take(&source).await?;
    let position = snapshot.position;
    // The source's transaction holds the snapshot now.
    drop(snapshot);
    applier.run(&Until::Position(position)).await?;
    target
        .batch_execute("begin isolation level repeatable read, read only; set local row_security = off; select")
        .await
        .doing("look at the target")?;
    applier.track();
    for side in [&source, &target] {
        side.batch_execute(FORMATS).await.doing("set the formats of values")?;
    }
    let Plan {
        tenant,
        source_schema,
        target_schema,
        ..
    } = plan;
    Ok(Pair {
        source,
        target,
        position,
        tenant,
        source_schema,
        target_schema,
    })
}

/// Compares all tables of the tenant and tells at most so many rows that differ.
///
/// # Errors
///
/// Where a side can't be asked, and [`StreamError::Structure`] where the tables are not the same ones.
///
/// # Cancel safety
///
/// Dropped, nothing is left.
pub async fn compare(pair: &Pair, differences_max: usize) -> Result<Compared, StreamError> {
    let (here, there) = tokio::try_join!(
        tables(&pair.source, &pair.source_schema),
        tables(&pair.target, &pair.target_schema)
    )?;
    if let Some(name) = here.keys().find(|name| !there.contains_key(*name)) {
        return Err(differs(name, "is not at the target"));
    }
    if let Some(name) = there.keys().find(|name| !here.contains_key(*name)) {
        return Err(differs(name, "is not at the source"));
    }
    let digest = Digest::between(&pair.source, &pair.target).await?;
    let mut compared = Compared::default();
    for (name, shape) in &here {
        let other = there.get(name);
        let Some(other) = other.filter(|other| (&other.columns, &other.key) == (&shape.columns, &shape.key)) else {
            return Err(differs(name, "has other columns at the target"));
        };
        let left = differences_max - compared.differences.len();
        let row = Hashed {
            hash: shape.hash(other, digest),
            key: shape.key(),
        };
        let (table, differences) = compare_table(pair, name, &row, left).await?;
        compared.tables.push(table);
        compared.differences.extend(differences);
    }
    Ok(compared)
}

/// What is compared of a table.
struct Shape {
    /// Quoted.
    columns: Vec<String>,
    /// Whether the type of each is one of [`SENT`].
    sent: Vec<bool>,
    /// Quoted columns as a list.
    key: String,
}

/// How a row is told from others, as SQL.
struct Hashed {
    hash: String,
    key: String,
}

impl Shape {
    /// A row's hash. What one of the sides can't send goes as text.
    fn hash(&self, other: &Self, digest: Digest) -> String {
        let both = self.sent.iter().zip(&other.sent).map(|(here, there)| *here && *there);
        let values = self.columns.iter().zip(both).map(|(column, is_sent)| match is_sent {
            true => column.clone(),
            false => format!("{column}::pg_catalog.text"),
        });
        let values: Vec<_> = values.collect();
        let row = format!("pg_catalog.record_send(row({}))", values.join(", "));
        match digest {
            // Bytes by themselves have no hash before PostgreSQL 18.
            Digest::Hash => {
                let text = digest.of(&format!("pg_catalog.encode({row}, 'hex')"));
                format!("{text} & {HASH_MASK}")
            }
            Digest::Md5 => digest.of(&row),
        }
    }

    /// What a row is found by; without a key it is what it holds.
    fn key(&self) -> String {
        match self.key.as_str() {
            "" => self.columns.join(", "),
            key => key.to_owned(),
        }
    }
}

fn differs(table: &str, what: &str) -> StreamError {
    StreamError::Structure {
        table: table.to_owned(),
        what: what.to_owned(),
    }
}

/// The isolated tables by name, with their columns in an order that both sides agree on.
async fn tables(client: &Client, schema: &str) -> Result<BTreeMap<String, Shape>, SqlError> {
    let rows = client
        .query(
            "select c.relname::text,
                    pg_catalog.array_agg(pg_catalog.quote_ident(a.attname) order by a.attname collate \"C\"),
                    pg_catalog.array_agg(a.atttypid = any ($3::text[]::pg_catalog.regtype[]) order by a.attname collate \"C\"),
                    coalesce(pg_catalog.string_agg(pg_catalog.quote_ident(a.attname), ', ' order by a.attname collate \"C\")
                      filter (where exists (select from pg_catalog.pg_index i
                                             where i.indrelid = c.oid and i.indisprimary and a.attnum = any (i.indkey))), '')
               from pg_catalog.pg_class c
               join pg_catalog.pg_namespace n on n.oid = c.relnamespace
               join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
              where n.nspname = $1 and c.relkind in ('r', 'p') and not c.relispartition
                and exists (select from pg_catalog.pg_attribute t where t.attrelid = c.oid and t.attname = $2 and not t.attisdropped)
              group by c.oid, c.relname",
            &[&schema, &TENANT_COLUMN, &SENT.as_slice()],
        )
        .await
        .doing("list the tables to compare")?;
    Ok(rows
        .iter()
        .map(|row| {
            let shape = Shape {
                columns: row.get(1),
                sent: row.get(2),
                key: row.get(3),
            };
            (row.get(0), shape)
        })
        .collect())
}

/// One side of a table.
struct Side<'a> {
    client: &'a Client,
    /// A query of each row's key and hash.
    rows: String,
}

type Sums = BTreeMap<i32, (i64, String)>;
type Row = (String, i64);

async fn compare_table(
    pair: &Pair,
    name: &str,
    row: &Hashed,
    differences_max: usize,
) -> Result<(TableCompared, Vec<Difference>), StreamError> {
    let source = Side::new(&pair.source, &pair.source_schema, name, row, pair.tenant)?;
    let target = Side::new(&pair.target, &pair.target_schema, name, row, pair.tenant)?;
    let (here, there) = tokio::try_join!(source.sums(), target.sums())?;
    let differing: Vec<i32> = (0..BUCKETS.cast_signed())
        .filter(|bucket| here.get(bucket) != there.get(bucket))
        .collect();
    let mut differences = Vec::new();
    // A changed row is in one bucket here and in another there, so that only all of them together tell it from one that is missing.
    let mut open: BTreeMap<String, (Vec<i64>, Vec<i64>)> = BTreeMap::new();
    for buckets in differing.chunks(BUCKETS_AT_ONCE) {
        if open.len() >= differences_max {
            break;
        }
        let (here, there) = tokio::try_join!(source.rows(buckets), target.rows(buckets))?;
        note(&mut open, here, there);
    }
    for (key, (here, there)) in open {
        let way = match (here.is_empty(), there.is_empty()) {
            (false, true) => Way::Missing,
            (true, false) => Way::Extra,
            _ => Way::Changed,
        };
        if differences.len() < differences_max {
            differences.push(Difference {
                table: name.to_owned(),
                key,
                way,
            });
        }
    }
    let rows = |sums: &Sums| sums.values().map(|(count, _)| count).sum();
    let checksum = here
        .values()
        .filter_map(|(_, sum)| sum.parse::<i128>().ok())
        .sum::<i128>()
        .to_string();
    let table = TableCompared {
        table: name.to_owned(),
        source_rows: rows(&here),
        target_rows: rows(&there),
        checksum,
        same: differing.is_empty(),
    };
    Ok((table, differences))
}

/// Adds rows that are not the same on both sides.
fn note(open: &mut BTreeMap<String, (Vec<i64>, Vec<i64>)>, here: Vec<Row>, there: Vec<Row>) {
    let mut rows: BTreeMap<String, (Vec<i64>, Vec<i64>)> = BTreeMap::new();
    for (key, hash) in here {
        rows.entry(key).or_default().0.push(hash);
    }
    for (key, hash) in there {
        rows.entry(key).or_default().1.push(hash);
    }
    for (key, (here, there)) in rows.into_iter().filter(|(_, (here, there))| here != there) {
        let known = open.entry(key).or_default();
        known.0.extend(here);
        known.1.extend(there);
    }
}

impl<'a> Side<'a> {
    fn new(client: &'a Client, schema: &str, table: &str, row: &Hashed, tenant: TenantId) -> Result<Self, StreamError> {
        let table = Qualified::new(schema, table)?;
        let tenant = Literal::new(tenant.to_string()).expect("a uuid holds no zero byte");
        let column = Identifier::new(TENANT_COLUMN)?;
        let Hashed { hash, key } = row;
        // Without `offset` a row would be hashed as often as its hash is used.
        let rows =
            format!("select row({key})::text as key, {hash} as hash from {table} where {column} = {tenant} offset 0");
        Ok(Self { client, rows })
    }

    /// How many rows are in each bucket, and the sum of their hashes.
    async fn sums(&self) -> Result<Sums, SqlError> {
        let shift = HASH_BITS - BUCKET_BITS;
        let sql = format!(
            "select (hash >> {shift})::int4, pg_catalog.count(*), pg_catalog.sum(hash)::text from ({}) r group by 1",
            self.rows
        );
        let rows = self.client.query(&sql, &[]).await.doing("sum up the rows of a table")?;
        Ok(rows.iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect())
    }

    /// The rows of some buckets.
    async fn rows(&self, buckets: &[i32]) -> Result<Vec<Row>, SqlError> {
        let shift = HASH_BITS - BUCKET_BITS;
        let sql = format!(
            "select key, hash from ({}) r where (hash >> {shift})::int4 = any ($1) order by hash",
            self.rows
        );
        let rows = self
            .client
            .query(&sql, &[&buckets])
            .await
            .doing("read rows that differ")?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_row_is_one_whichever_buckets_it_is_in() {
        let mut open = BTreeMap::new();
        let row = |key: &str, hash| (key.to_owned(), hash);
        note(&mut open, vec![row("a", 1), row("b", 2)], vec![row("b", 2)]);
        note(&mut open, vec![], vec![row("a", 9), row("c", 3)]);
        assert_eq!(open["a"], (vec![1], vec![9]));
        assert_eq!(open["c"], (vec![], vec![3]));
        assert!(!open.contains_key("b"));
    }
}
