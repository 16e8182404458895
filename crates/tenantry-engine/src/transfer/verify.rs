//! Whether both sides hold the same rows of a tenant: count and checksum of each table, and the rows that differ.
//!
//! The checksum is a sum over hashes of the rows as text, columns by name: rows may lie in any order, columns may stand in any
//! order. Two servers of one build make it by `hashtextextended`, which is the fastest; others by 60 bits of MD5, since PostgreSQL
//! does not promise that its own hash is the same on every version and machine.

use std::{collections::BTreeMap, fmt};

use tenantry_core::TenantId;
use tokio_postgres::{
    Client,
    types::{ToSql, Type},
};

use super::{
    End, Table, TransferError,
    copy::{Pair, pairs},
    end::of,
};
use crate::sql_error::{Doing, SqlError};

/// A row of `t` as a value: `t` alone would be a column of that name.
pub(super) const WHOLE_ROW: &str = "(t.*)::pg_catalog.text";
/// How many keys of a table that differs are named.
const KEYS_MAX: usize = 10;
/// Rows that are looked at side by side while those that differ are looked for.
const BUCKET_ROWS: i64 = 2_000;
/// Into how many parts a table is divided for that at most.
const BUCKETS_MAX: i64 = 100_000;

/// How a row becomes a number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Digest {
    /// By PostgreSQL's own hash: two servers of the same build.
    Hash,
    /// By MD5.
    Md5,
}

/// A table that is the same on both sides.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verified {
    /// Its plain name.
    pub table: String,
    /// How many of its rows are the tenant's.
    pub rows: i64,
    /// The sum of the rows' hashes.
    pub checksum: String,
}

/// A table that is not.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TableDifference {
    /// Its plain name.
    pub table: String,
    /// Rows in the source.
    pub source_rows: i64,
    /// Rows in the target.
    pub target_rows: i64,
    /// The keys of some rows that differ or are on one side only, without `tenant_id`, as PostgreSQL writes a row; hashes of
    /// rows where the table has no key.
    pub keys: Vec<String>,
}

impl fmt::Display for TableDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            table,
            source_rows,
            target_rows,
            keys,
        } = self;
        write!(f, "{table} ({source_rows} rows there, {target_rows} here")?;
        if !keys.is_empty() {
            write!(f, "; among them {}", keys.join(", "))?;
        }
        f.write_str(")")
    }
}

impl Digest {
    pub(super) async fn between(source: &Client, target: &Client) -> Result<Self, SqlError> {
        Ok(match build(source).await? == build(target).await? {
            true => Self::Hash,
            false => Self::Md5,
        })
    }

    /// The number of a text, as SQL.
    pub(super) fn of(self, text: &str) -> String {
        match self {
            Self::Hash => format!(r#"pg_catalog.hashtextextended({text} collate "C", 0)"#),
            Self::Md5 => format!("('x' || left(pg_catalog.md5({text}), 15))::pg_catalog.bit(60)::pg_catalog.int8"),
        }
    }
}

/// What the server was built from, and for which machine.
async fn build(client: &Client) -> Result<String, SqlError> {
    let row = client.query_typed_one("select pg_catalog.version()", &[]).await;
    Ok(row.doing("ask for the server's version")?.get(0))
}

/// The tenant's rows, with the columns by name.
pub(super) fn rows(table: &Table, tenant: TenantId) -> String {
    format!(
        "(select {} from {} where {}) as t",
        table.column_list(),
        table.quoted,
        of(tenant)
    )
}

/// Count and checksum.
pub(super) async fn sum(
    end: End<'_>,
    table: &Table,
    tenant: TenantId,
    digest: Digest,
) -> Result<(i64, String), SqlError> {
    let sum = format!(
        "select pg_catalog.count(*), coalesce(pg_catalog.sum({}), 0)::pg_catalog.text from {}",
        digest.of(WHOLE_ROW),
        rows(table, tenant)
    );
    let row = end.client.query_one(&sum, &[]).await.doing("sum up a table")?;
    Ok((row.get(0), row.get(1)))
}

/// Compares all tables of a tenant in two databases, each side as of one moment. Where the source goes on changing, `snapshot` names
/// one that the target is a copy of.
///
/// # Errors
///
/// [`TransferError::Differs`] with every table that does; drop both connections after any error.
///
/// # Cancel safety
///
/// It only reads; drop both connections.
pub async fn verify(
    source: End<'_>,
    target: End<'_>,
    tenant: TenantId,
    snapshot: Option<&str>,
) -> Result<Vec<Verified>, TransferError> {
    let pairs = pairs(source, target).await?;
    let digest = Digest::between(source.client, target.client).await?;
    source.begin_reading(snapshot).await?;
    target.begin_reading(None).await?;
    let (mut same, mut different) = (Vec::new(), Vec::new());
    for pair in &pairs {
        let (here, there) = tokio::try_join!(
            sum(source, &pair.source, tenant, digest),
            sum(target, &pair.target, tenant, digest)
        )?;
        if here == there {
            same.push(verified(pair, here));
        } else {
            let keys = differing_keys(source, target, pair, tenant, digest, here.0.max(there.0)).await?;
            different.push(difference(pair, here.0, there.0, keys));
        }
    }
    source.roll_back().await;
    target.roll_back().await;
    match different.is_empty() {
        true => Ok(same),
        false => Err(TransferError::Differs(different)),
    }
}

pub(super) fn verified(pair: &Pair, (rows, checksum): (i64, String)) -> Verified {
    Verified {
        table: pair.source.name.clone(),
        rows,
        checksum,
    }
}

pub(super) fn difference(pair: &Pair, source_rows: i64, target_rows: i64, keys: Vec<String>) -> TableDifference {
    TableDifference {
        table: pair.source.name.clone(),
        source_rows,
        target_rows,
        keys,
    }
}

/// Divides the table into buckets by the hash of the key, and looks side by side into those that differ.
async fn differing_keys(
    source: End<'_>,
    target: End<'_>,
    pair: &Pair,
    tenant: TenantId,
    digest: Digest,
    rows: i64,
) -> Result<Vec<String>, SqlError> {
    let buckets = (rows / BUCKET_ROWS + 1).min(BUCKETS_MAX);
    let (here, there) = tokio::try_join!(
        bucket_sums(source, &pair.source, tenant, digest, buckets),
        bucket_sums(target, &pair.target, tenant, digest, buckets)
    )?;
    let mut keys = Vec::new();
    for bucket in 0..buckets {
        if here.get(&bucket) == there.get(&bucket) {
            continue;
        }
        let (here, there) = tokio::try_join!(
            bucket_rows(source, &pair.source, tenant, digest, buckets, bucket),
            bucket_rows(target, &pair.target, tenant, digest, buckets, bucket)
        )?;
        let both = here.keys().chain(there.keys().filter(|key| !here.contains_key(*key)));
        keys.extend(both.filter(|key| here.get(*key) != there.get(*key)).cloned());
        if keys.len() >= KEYS_MAX {
            break;
        }
    }
    keys.truncate(KEYS_MAX);
    Ok(keys)
}

/// What stands for a row, as SQL: its key as text, or its hash.
fn key_of(table: &Table, digest: Digest) -> String {
    match table.key_list().as_deref() {
        None => format!("({})::pg_catalog.text", digest.of(WHOLE_ROW)),
        // A table with one row for each tenant.
        Some("") => "'()'".to_owned(),
        Some(columns) => format!("row({columns})::pg_catalog.text"),
    }
}

fn bucket_of(table: &Table, digest: Digest, buckets: i64) -> String {
    format!(
        "(({} % {buckets}) + {buckets}) % {buckets}",
        digest.of(&key_of(table, digest))
    )
}

async fn bucket_sums(
    end: End<'_>,
    table: &Table,
    tenant: TenantId,
    digest: Digest,
    buckets: i64,
) -> Result<BTreeMap<i64, (i64, String)>, SqlError> {
    let sums = format!(
        "select {}, pg_catalog.count(*), pg_catalog.sum({})::pg_catalog.text from {} group by 1",
        bucket_of(table, digest, buckets),
        digest.of(WHOLE_ROW),
        rows(table, tenant)
    );
    let found = end.client.query(&sums, &[]).await.doing("sum up parts of a table")?;
    Ok(found.iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect())
}

/// Keys with how many rows have them, and these rows' checksum.
async fn bucket_rows(
    end: End<'_>,
    table: &Table,
    tenant: TenantId,
    digest: Digest,
    buckets: i64,
    bucket: i64,
) -> Result<BTreeMap<String, (i64, String)>, SqlError> {
    let sums = format!(
        "select {}, pg_catalog.count(*), pg_catalog.sum({})::pg_catalog.text from {} where {} = $1 group by 1",
        key_of(table, digest),
        digest.of(WHOLE_ROW),
        rows(table, tenant),
        bucket_of(table, digest, buckets)
    );
    let found = end
        .client
        .query(&sums, &[&bucket])
        .await
        .doing("compare rows of a table")?;
    Ok(found.iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect())
}

/// Refuses rows of a home whose foreign keys lead to reference tables and to nothing there: the copy ran without these checks, and
/// reference tables are not copied. What isolated tables refer to among each other was copied with them.
///
/// # Errors
///
/// [`TransferError::Orphans`], with the first foreign key that is broken.
///
/// # Cancel safety
///
/// It only reads; drop the connection, also after an error.
pub async fn foreign_rows(target: End<'_>, tenant: TenantId) -> Result<(), TransferError> {
    let checks = reference_checks(target, tenant).await?;
    target.begin_reading(None).await?;
    let mut checked = Ok(());
    for check in &checks {
        checked = check.run(target, "", &[]).await;
        if checked.is_err() {
            break;
        }
    }
    target.roll_back().await;
    checked
}

/// A foreign key from an isolated table to one that every tenant shares.
#[derive(Debug)]
pub(super) struct ReferenceCheck {
    /// The isolated table.
    pub(super) table: String,
    constraint: String,
    from: String,
    condition: String,
}

impl ReferenceCheck {
    /// Counts the rows that lead to nothing, among those that `join` leaves of the table, which is called `child`.
    pub(super) async fn run(
        &self,
        target: End<'_>,
        join: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<(), TransferError> {
        let count = format!(
            "select pg_catalog.count(*) from {} {join} where {}",
            self.from, self.condition
        );
        let row = target.client.query_one(&count, parameters).await;
        match row.doing("check a foreign key")?.get::<_, i64>(0) {
            0 => Ok(()),
            rows => Err(TransferError::Orphans {
                table: self.table.clone(),
                constraint: self.constraint.clone(),
                rows,
            }),
        }
    }
}

pub(super) async fn reference_checks(target: End<'_>, tenant: TenantId) -> Result<Vec<ReferenceCheck>, SqlError> {
    let checks = target
        .client
        .query_typed(
            REFERENCES,
            &[(&target.schema.as_str(), Type::TEXT), (tenant.as_uuid(), Type::UUID)],
        )
        .await
        .doing("list the foreign keys to reference tables")?;
    let check = |row: &tokio_postgres::Row| ReferenceCheck {
        table: row.get(0),
        constraint: row.get(1),
        from: row.get(2),
        condition: row.get(3),
    };
    Ok(checks.iter().map(check).collect())
}

/// Table and condition of a query for each foreign key from an isolated table to another one.
const REFERENCES: &str = "
    select c.relname::pg_catalog.text, k.conname::pg_catalog.text,
           pg_catalog.format('%I.%I as child', n.nspname, c.relname),
           pg_catalog.format('child.tenant_id = %L and %s and not exists (select from %I.%I as parent where %s)', $2::pg_catalog.uuid,
                  (select pg_catalog.string_agg(pg_catalog.format('child.%I is not null', a.attname), ' and ')
                     from pg_catalog.pg_attribute a where a.attrelid = k.conrelid and a.attnum = any (k.conkey)),
                  pn.nspname, p.relname,
                  (select pg_catalog.string_agg(pg_catalog.format('parent.%I = child.%I', pa.attname, ca.attname), ' and ')
                     from unnest(k.conkey, k.confkey) as u (child, parent)
                     join pg_catalog.pg_attribute ca on ca.attrelid = k.conrelid and ca.attnum = u.child
                     join pg_catalog.pg_attribute pa on pa.attrelid = k.confrelid and pa.attnum = u.parent))
      from pg_catalog.pg_constraint k
      join pg_catalog.pg_class c on c.oid = k.conrelid
      join pg_catalog.pg_namespace n on n.oid = c.relnamespace
      join pg_catalog.pg_class p on p.oid = k.confrelid
      join pg_catalog.pg_namespace pn on pn.oid = p.relnamespace
     where n.nspname = $1 and k.contype = 'f' and k.conparentid = 0
       and exists (select from pg_catalog.pg_attribute a where a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped)
       and not exists (select from pg_catalog.pg_attribute a where a.attrelid = p.oid and a.attname = 'tenant_id' and not a.attisdropped)
     order by c.relname, k.conname";
