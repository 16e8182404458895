//! Rows that are copied while the tenant works, where nothing tells what it writes meanwhile; behind its closed fence they are levelled: both
//! sides are looked at row by row, and what differs is brought anew.
//!
//! No row is trusted for having been copied: the look reads both sides whole, and its hashes are what the move's certificate rests on. Rows that
//! it finds to differ are removed at the target by their keys, copied again, and looked at again. So it does not matter what was
//! written between the copy and the fence, nor by whom, nor what an attempt before has left.

use std::collections::HashMap;

use bytes::Bytes;
use futures_util::{SinkExt, TryStreamExt, pin_mut};
use tenantry_core::TenantId;
use tenantry_sql::Literal;
use tokio_postgres::types::{ToSql, Type};

use super::{
    End, Table, TransferError,
    copy::{Pair, Tell, copy, copy_table, lively, pairs},
    end::of,
    lasting::LIGHTLY,
    recheck::{AT_ONCE, BY_INDEX, Keys},
    tables::TENANT,
    verify::{Digest, TableDifference, Verified, WHOLE_ROW, difference, rows, sum, verified},
};
use crate::sql_error::{Doing, SqlError};

/// The rows of a table that are looked at one by one; of a larger one, only those of parts that differ.
const FEW: u64 = 20_000;
/// About how many rows a part has.
const PART_ROWS: u64 = 32;
/// Into how many parts a table is divided at most: two to the power of this.
const PART_BITS_MAX: u32 = 20;
/// About how many rows of one side are in memory at once, beside those that differ.
const ROWS_AT_ONCE: i64 = 500_000;
/// The bits of a row's hash by which it is in one of the parts.
const PART_SHIFT: u32 = 40;
/// How many keys of a table that differs are named.
const KEYS_MAX: usize = 10;

/// A tenant's rows at the new home, as of some moment of the old one.
#[derive(Debug)]
pub struct RowsAhead {
    tenant: TenantId,
    tables: Vec<Both>,
    digest: Digest,
}

/// What levelling has found and done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Levelled {
    /// Every table, as it is on both sides.
    pub tables: Vec<Verified>,
    /// How many rows were brought anew.
    pub brought: u64,
}

/// A table at both ends.
#[derive(Debug)]
struct Both {
    pair: Pair,
    here: Side,
    there: Side,
    /// Into how many parts it is divided, in bits; `None` where its rows are looked at one by one.
    part_bits: Option<u32>,
}

/// How one side's rows are looked at.
#[derive(Debug)]
struct Side {
    /// Each row's key, column by column as text, and its hash.
    rows: String,
    /// How rows are found by their keys; `None` where they have none.
    keys: Option<Keys>,
    /// The same as [`rows`](Self::rows), of keys that are given.
    by_keys: String,
}

type Key = Vec<String>;

/// Rows with their hashes.
type Hashes = HashMap<Key, i64>;

/// How many rows are in each part of a table, and the sum of their hashes.
type Parts = HashMap<i32, (i64, i128)>;

/// What is not the same on both sides of a table.
struct Found {
    /// How many rows the source has, and the sum of their hashes.
    rows: i64,
    checksum: i128,
    target_rows: i64,
    what: Differing,
}

enum Differing {
    Nothing,
    /// By their keys.
    Rows {
        /// Those of the target that go.
        stale: Vec<Key>,
        /// Those of the source that come.
        wanted: Hashes,
    },
    /// Its rows have no keys.
    Something,
}

impl RowsAhead {
    /// Copies all rows while the tenant works, as of now, past what an earlier attempt has left. `source` is another connection than `target`,
    /// also where both homes are in one database. The commit is not waited for.
    ///
    /// # Errors
    ///
    /// See [`TransferError`]; drop both connections then.
    ///
    /// # Cancel safety
    ///
    /// Drop both connections: nothing was copied.
    pub async fn bring(
        source: End<'_>,
        target: End<'_>,
        tenant: TenantId,
        tell: Tell<'_>,
    ) -> Result<Self, TransferError> {
        let copied = copy(source, target, tenant, None, tell).await?;
        let digest = Digest::between(source.client, target.client).await?;
        let mut tables = Vec::new();
        for pair in pairs(source, target).await? {
            let copied = copied.iter().find(|one| one.table == pair.source.name);
            let rows = copied.map_or(0, |one| one.rows);
            tables.push(Both {
                // By the source's key on both sides: which one is taken where several would do is each home's own.
                here: Side::new(&pair.source, &pair.source.key, tenant, digest)?,
                there: Side::new(&pair.target, &pair.source.key, tenant, digest)?,
                part_bits: (rows > FEW).then(|| (rows / PART_ROWS).ilog2().min(PART_BITS_MAX)),
                pair,
            });
        }
        Ok(Self { tenant, tables, digest })
    }

    /// Makes the target's rows the same as the source's, and shows that they are, in one transaction whose commit is not waited for:
    /// [`make_lasting`](super::make_lasting) has to follow. It holds of the moment at which it looks, so the last time is behind the closed
    /// fence; before, it leaves that one less to do.
    ///
    /// # Errors
    ///
    /// [`TransferError::Differs`] with every table that could not be made the same; nothing was changed then. Drop both connections after any
    /// error.
    ///
    /// # Cancel safety
    ///
    /// Drop both connections: nothing was changed.
    pub async fn level(&self, source: End<'_>, target: End<'_>) -> Result<Levelled, TransferError> {
        tokio::try_join!(source.begin_reading(None), target.begin_writing())?;
        let mut all = Vec::with_capacity(self.tables.len());
        for table in &self.tables {
            all.push(table.look(source, target, self.tenant, self.digest).await?);
        }
        if all.iter().any(|found| !matches!(found.what, Differing::Nothing)) {
            let by_index = format!("{LIGHTLY}; {BY_INDEX}");
            tokio::try_join!(
                source.client.batch_execute(BY_INDEX),
                target.client.batch_execute(&by_index)
            )
            .doing("look rows up by their keys")?;
        }
        let (mut tables, mut different, mut brought) = (Vec::new(), Vec::new(), 0);
        for (table, found) in self.tables.iter().zip(&all) {
            match table.level(source, target, self, found).await? {
                Ok(rows) => {
                    brought += rows;
                    tables.push(verified(&table.pair, (found.rows, found.checksum.to_string())));
                }
                Err(difference) => different.push(difference),
            }
        }
        source.roll_back().await;
        match different.is_empty() {
            true => {
                target.commit().await?;
                Ok(Levelled { tables, brought })
            }
            false => {
                target.roll_back().await;
                Err(TransferError::Differs(different))
            }
        }
    }
}

impl Both {
    async fn look(
        &self,
        source: End<'_>,
        target: End<'_>,
        tenant: TenantId,
        digest: Digest,
    ) -> Result<Found, TransferError> {
        if self.here.keys.is_none() || self.there.keys.is_none() {
            let (here, there) = tokio::try_join!(
                sum(source, &self.pair.source, tenant, digest),
                sum(target, &self.pair.target, tenant, digest)
            )?;
            let what = match here == there {
                true => Differing::Nothing,
                false => Differing::Something,
            };
            return Ok(Found {
                rows: here.0,
                checksum: here.1.parse().unwrap_or_default(),
                target_rows: there.0,
                what,
            });
        }
        let Some(bits) = self.part_bits else {
            let (here, there) = tokio::try_join!(
                self.here.hashes(source, &self.here.rows, &[]),
                self.there.hashes(target, &self.there.rows, &[])
            )?;
            return Ok(Found {
                rows: count(here.len()),
                checksum: here.values().map(|hash| i128::from(*hash)).sum(),
                target_rows: count(there.len()),
                what: differing(here, &there),
            });
        };
        let (here, there) = tokio::try_join!(self.here.parts(source, bits), self.there.parts(target, bits))?;
        let (mut stale, mut wanted) = (Vec::new(), Hashes::new());
        for parts in slices(&here, &there) {
            let (here, there) = tokio::try_join!(
                self.here.rows_of(source, bits, &parts),
                self.there.rows_of(target, bits, &parts)
            )?;
            if let Differing::Rows {
                stale: goes,
                wanted: comes,
            } = differing(here, &there)
            {
                stale.extend(goes);
                wanted.extend(comes);
            }
        }
        let what = match stale.is_empty() && wanted.is_empty() {
            true => Differing::Nothing,
            false => Differing::Rows { stale, wanted },
        };
        Ok(Found {
            rows: here.values().map(|(rows, _)| rows).sum(),
            checksum: here.values().map(|(_, sum)| sum).sum(),
            target_rows: there.values().map(|(rows, _)| rows).sum(),
            what,
        })
    }

    /// How many rows were brought, or what could not be made the same.
    async fn level(
        &self,
        source: End<'_>,
        target: End<'_>,
        all: &RowsAhead,
        found: &Found,
    ) -> Result<Result<u64, TableDifference>, TransferError> {
        let (pair, tenant) = (&self.pair, all.tenant);
        let (stale, wanted) = match &found.what {
            Differing::Nothing => return Ok(Ok(0)),
            Differing::Something => {
                let copied = copy_table(source, target, pair, tenant, &mut |_, _| ()).await?;
                let (rows, checksum) = sum(target, &pair.target, tenant, all.digest).await?;
                return Ok(match (rows, checksum) == (found.rows, found.checksum.to_string()) {
                    true => Ok(copied.rows),
                    false => Err(difference(pair, found.rows, rows, Vec::new())),
                });
            }
            Differing::Rows { stale, wanted } => (stale, wanted),
        };
        let (Some(here), Some(there)) = (&self.here.keys, &self.there.keys) else {
            return Ok(Err(difference(pair, found.rows, found.target_rows, Vec::new())));
        };
        let mut removed = 0;
        for keys in stale.chunks(AT_ONCE) {
            removed += remove(target, &pair.target, there, tenant, keys).await?;
        }
        let coming: Vec<&Key> = wanted.keys().collect();
        let mut brought = 0;
        for keys in coming.chunks(AT_ONCE) {
            brought += bring(source, target, pair, here, tenant, keys).await?;
        }
        let mut wrong = Vec::new();
        for keys in coming.chunks(AT_ONCE) {
            let columns = columns(keys, there.width());
            let now = self
                .there
                .hashes(target, &self.there.by_keys, &parameters(&columns))
                .await?;
            wrong.extend(keys.iter().filter(|key| now.get(**key) != wanted.get(**key)).copied());
        }
        let rows = found.target_rows - i64::try_from(removed).unwrap_or(i64::MAX) + count(coming.len());
        if wrong.is_empty() && rows == found.rows && brought == coming.len() as u64 {
            return Ok(Ok(brought));
        }
        let named = wrong.iter().take(KEYS_MAX).map(|key| format!("({})", key.join(",")));
        Ok(Err(difference(pair, found.rows, rows, named.collect())))
    }
}

impl Side {
    fn new(table: &Table, key: &[String], tenant: TenantId, digest: Digest) -> Result<Self, TransferError> {
        let key: Vec<String> = key.iter().filter(|name| *name != TENANT).cloned().collect();
        let has = |name: &String| table.columns.iter().any(|column| column.name == *name);
        let keys = match key.is_empty() || !key.iter().all(has) {
            // None, or one row for each tenant, or one that PostgreSQL makes.
            true => None,
            false => Some(Keys::of(table, &key)?),
        };
        let named = keys.as_ref().map(Keys::as_text).unwrap_or_default();
        let look = |from: &str| format!("select {named} {} as hash from {from}", digest.of(WHOLE_ROW));
        let by_keys = keys.as_ref().map(|keys| {
            let columns: Vec<_> = table.columns.iter().map(|one| format!("o.{}", one.quoted)).collect();
            format!(
                "(select {} from {} join {} as o on {} where o.{}) as t",
                columns.join(", "),
                keys.from,
                table.quoted,
                keys.is_one("o"),
                of(tenant)
            )
        });
        Ok(Self {
            // Without `offset` a row would be hashed as often as its hash is used.
            rows: format!("{} offset 0", look(&rows(table, tenant))),
            by_keys: by_keys.map(|from| look(&from)).unwrap_or_default(),
            keys,
        })
    }

    fn width(&self) -> usize {
        self.keys.as_ref().map_or(0, Keys::width)
    }

    /// The rows of a query like [`rows`](Self::rows). A key that is null is none: no two rows have the same, and none is found by it.
    async fn hashes(&self, end: End<'_>, sql: &str, of: &[(&(dyn ToSql + Sync), Type)]) -> Result<Hashes, SqlError> {
        let width = self.width();
        let rows = end.client.query_typed_raw(sql, of.iter().cloned()).await;
        let rows = rows.doing("look at the rows of a table")?;
        pin_mut!(rows);
        let mut hashes = HashMap::new();
        while let Some(row) = rows.try_next().await.doing("look at the rows of a table")? {
            let key = (0..width).map(|column| row.get::<_, Option<String>>(column).unwrap_or_default());
            hashes.insert(key.collect(), row.get(width));
        }
        Ok(hashes)
    }

    /// How many rows are in each part, and the sum of their hashes.
    async fn parts(&self, end: End<'_>, bits: u32) -> Result<Parts, SqlError> {
        let sql = format!(
            "select {}, pg_catalog.count(*), pg_catalog.sum(hash)::pg_catalog.text from ({}) as r group by 1",
            part(bits),
            self.rows
        );
        let rows = end
            .client
            .query_typed(&sql, &[])
            .await
            .doing("sum up parts of a table")?;
        let sum = |text: &str| text.parse().unwrap_or_default();
        Ok(rows
            .iter()
            .map(|row| (row.get(0), (row.get(1), sum(row.get(2)))))
            .collect())
    }

    async fn rows_of(&self, end: End<'_>, bits: u32, parts: &[i32]) -> Result<Hashes, SqlError> {
        let sql = format!("select * from ({}) as r where {} = any ($1)", self.rows, part(bits));
        self.hashes(end, &sql, &[(&parts, Type::INT4_ARRAY)]).await
    }
}

/// The part of a table that a row is in, as SQL.
fn part(bits: u32) -> String {
    format!("((hash >> {PART_SHIFT}) & {})::pg_catalog.int4", (1_u64 << bits) - 1)
}

/// The parts that differ, as many at a time as have about [`ROWS_AT_ONCE`] rows. A row that was changed is in one part here and in another there, so
/// that it may be told as one that goes and one that comes.
fn slices(here: &Parts, there: &Parts) -> Vec<Vec<i32>> {
    let rows = |part: &i32| {
        let of = |side: &Parts| side.get(part).map_or(0, |(rows, _)| *rows);
        of(here).max(of(there))
    };
    let mut parts: Vec<i32> = here.keys().chain(there.keys()).copied().collect();
    parts.sort_unstable();
    parts.dedup();
    parts.retain(|part| here.get(part) != there.get(part));
    let (mut slices, mut slice, mut in_slice) = (Vec::new(), Vec::new(), 0);
    for part in parts {
        in_slice += rows(&part);
        slice.push(part);
        if in_slice >= ROWS_AT_ONCE {
            slices.push(std::mem::take(&mut slice));
            in_slice = 0;
        }
    }
    if !slice.is_empty() {
        slices.push(slice);
    }
    slices
}

fn differing(here: Hashes, there: &Hashes) -> Differing {
    let stale: Vec<Key> = there
        .iter()
        .filter(|(key, hash)| here.get(*key) != Some(hash))
        .map(|(key, _)| key.clone())
        .collect();
    let mut wanted = here;
    wanted.retain(|key, hash| there.get(key) != Some(hash));
    match stale.is_empty() && wanted.is_empty() {
        true => Differing::Nothing,
        false => Differing::Rows { stale, wanted },
    }
}

fn count(rows: usize) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}

/// Keys column by column.
fn columns<K: AsRef<[String]>>(keys: &[K], width: usize) -> Vec<Vec<&str>> {
    let of = |column: usize| keys.iter().map(|key| key.as_ref()[column].as_str()).collect();
    (0..width).map(of).collect()
}

fn parameters<'a>(columns: &'a [Vec<&'a str>]) -> Vec<(&'a (dyn ToSql + Sync), Type)> {
    columns
        .iter()
        .map(|column| (column as &(dyn ToSql + Sync), Type::TEXT_ARRAY))
        .collect()
}

async fn remove(
    target: End<'_>,
    table: &Table,
    there: &Keys,
    tenant: TenantId,
    keys: &[Key],
) -> Result<u64, TransferError> {
    let sql = format!(
        "delete from {} as o using {} where {} and o.{}",
        table.quoted,
        there.from,
        there.is_one("o"),
        of(tenant)
    );
    let columns = columns(keys, there.width());
    let removed = target.client.execute_typed(&sql, &parameters(&columns)).await;
    Ok(removed.doing("remove rows that differ")?)
}

/// Copies rows by their keys.
async fn bring(
    source: End<'_>,
    target: End<'_>,
    pair: &Pair,
    here: &Keys,
    tenant: TenantId,
    keys: &[&Key],
) -> Result<u64, TransferError> {
    let form = pair.form();
    let columns: Vec<_> = pair
        .source
        .columns
        .iter()
        .map(|one| format!("o.{}", one.quoted))
        .collect();
    let read = format!(
        "copy (select {} from {} join {} as o on {} where o.{}) to stdout{form}",
        columns.join(", "),
        here.those_of(&literals(keys, here.width())),
        pair.source.quoted,
        here.is_one("o"),
        of(tenant)
    );
    let write = format!(
        "copy {} ({}) from stdin{form}",
        pair.target.quoted,
        pair.source.column_list()
    );
    let (rows, sink) = tokio::try_join!(
        lively(pair, source.client.copy_out(&read)),
        lively(pair, target.client.copy_in::<_, Bytes>(&write))
    )?;
    pin_mut!(rows, sink);
    while let Some(piece) = lively(pair, rows.try_next()).await? {
        lively(pair, sink.feed(piece)).await?;
    }
    lively(pair, sink.finish()).await
}

/// The same as [`columns`], as arrays in SQL: `copy` takes no parameters.
fn literals(keys: &[&Key], width: usize) -> Vec<String> {
    let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    columns(keys, width)
        .iter()
        .map(|column| {
            let values: Vec<_> = column.iter().map(|text| quoted(text)).collect();
            let array = format!("{{{}}}", values.join(","));
            Literal::new(array).expect("PostgreSQL stores no zero byte").to_string()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hashes(rows: &[(&str, i64)]) -> Hashes {
        rows.iter()
            .map(|(key, hash)| (vec![(*key).to_owned()], *hash))
            .collect()
    }

    #[test]
    fn what_was_changed_goes_and_comes() {
        let here = hashes(&[("same", 1), ("changed", 2), ("new", 3)]);
        let there = hashes(&[("same", 1), ("changed", 9), ("gone", 4)]);
        let Differing::Rows { mut stale, wanted } = differing(here, &there) else {
            panic!("they differ");
        };
        stale.sort();
        assert_eq!(stale, [["changed"], ["gone"]]);
        assert_eq!(wanted, hashes(&[("changed", 2), ("new", 3)]));
        assert!(matches!(
            differing(hashes(&[("same", 1)]), &hashes(&[("same", 1)])),
            Differing::Nothing
        ));
    }

    #[test]
    fn parts_that_differ_are_looked_into_some_at_a_time() {
        let here = Parts::from([(1, (10, 5)), (2, (400_000, 6)), (3, (200_000, 7)), (4, (1, 1))]);
        let there = Parts::from([(1, (10, 5)), (2, (400_000, 9)), (3, (200_001, 7)), (5, (2, 2))]);
        assert_eq!(slices(&here, &there), [vec![2, 3], vec![4, 5]]);
        assert!(slices(&here, &here).is_empty());
    }

    #[test]
    fn keys_are_arrays_whatever_they_hold() {
        let key = vec!["it's \"a\" \\ {b,c}".to_owned(), String::new()];
        assert_eq!(
            literals(&[&key], 2),
            [r#"E'{"it''s \\"a\\" \\\\ {b,c}"}'"#, r#"'{""}'"#]
        );
    }
}
