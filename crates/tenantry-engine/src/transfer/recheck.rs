//! The rows that were written since both sides were compared, compared again when nobody writes any more.
//!
//! A look by its key costs the same whatever the table holds, so this takes as long as little was written, and not as there are rows. What the
//! tables look like is found out before, while the tenant works: they stand still, and to ask takes longer than most of the looks.

use std::collections::BTreeMap;

use tenantry_core::TenantId;
use tokio_postgres::types::{ToSql, Type};

use super::{
    End, Table, TableDifference, TransferError,
    end::of,
    stream::{Key, Touched, TouchedTable},
    tables,
    tables::TENANT,
    verify::{Digest, ReferenceCheck, WHOLE_ROW, reference_checks},
};
use crate::sql_error::{Doing, SqlError};

/// How many keys are looked up by one statement.
pub(super) const AT_ONCE: usize = 1_000;
/// How many keys of a table that differs are named.
const KEYS_MAX: usize = 10;
/// By its index or not at all: an estimate that is wrong would have the whole tenant read while it waits.
pub(super) const BY_INDEX: &str =
    "set local enable_hashjoin = off; set local enable_mergejoin = off; set local enable_seqscan = off";

/// A table of which rows were compared again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rechecked {
    /// Its plain name.
    pub table: String,
    /// How many rows, those that are gone included.
    pub rows: usize,
    /// How many rows the table has more than when both sides were compared.
    pub gained: i64,
}

/// How the rows of a tenant are compared again, as long as nobody migrates either side.
#[derive(Debug)]
pub struct Recheck {
    tenant: TenantId,
    here: Vec<Table>,
    there: Vec<Table>,
    digest: Digest,
    checks: Vec<ReferenceCheck>,
}

impl Recheck {
    /// Finds out what has to be known for it.
    ///
    /// # Errors
    ///
    /// Where one of the two can't be asked; drop both connections then.
    ///
    /// # Cancel safety
    ///
    /// It only reads; drop both connections.
    pub async fn prepare(source: End<'_>, target: End<'_>, tenant: TenantId) -> Result<Self, TransferError> {
        let (here, there) = tokio::try_join!(
            tables(source.client, source.schema),
            tables(target.client, target.schema)
        )?;
        Ok(Self {
            tenant,
            here,
            there,
            digest: Digest::between(source.client, target.client).await?,
            checks: reference_checks(target, tenant).await?,
        })
    }

    /// Compares the rows that an applier has touched on both sides, those that shall be gone too, and refuses those that lead to
    /// nothing in a reference table. Both sides stand still.
    ///
    /// # Errors
    ///
    /// [`TransferError::Differs`] with every table that does; drop both connections after any error.
    ///
    /// # Cancel safety
    ///
    /// It only reads; drop both connections.
    pub async fn run(
        &self,
        source: End<'_>,
        target: End<'_>,
        touched: &Touched,
    ) -> Result<Vec<Rechecked>, TransferError> {
        tokio::try_join!(begin(source), begin(target))?;
        let (mut same, mut different) = (Vec::new(), Vec::new());
        for (name, touched) in touched.tables() {
            let find = |tables: &[Table]| tables.iter().find(|table| table.name == *name).cloned();
            let (Some(here), Some(there)) = (find(&self.here), find(&self.there)) else {
                return Err(TransferError::Structure {
                    what: format!("lacks the table {name}"),
                });
            };
            let (here, there) = (
                Lookup::new(source, &here, touched, self.tenant, self.digest)?,
                Lookup::new(target, &there, touched, self.tenant, self.digest)?,
            );
            let checks: Vec<_> = self.checks.iter().filter(|check| check.table == *name).collect();
            match compare(&here, &there, touched, &checks).await? {
                None => same.push(Rechecked {
                    table: name.clone(),
                    rows: touched.keys.len(),
                    gained: touched.gained,
                }),
                Some(difference) => different.push(difference),
            }
        }
        tokio::join!(source.roll_back(), target.roll_back());
        match different.is_empty() {
            true => Ok(same),
            false => Err(TransferError::Differs(different)),
        }
    }
}

/// Begins to look rows up by their keys.
pub(super) async fn begin(end: End<'_>) -> Result<(), SqlError> {
    end.begin_reading(None).await?;
    end.client
        .batch_execute(BY_INDEX)
        .await
        .doing("look rows up by their keys")
}

async fn compare(
    here: &Lookup<'_>,
    there: &Lookup<'_>,
    touched: &TouchedTable,
    checks: &[&ReferenceCheck],
) -> Result<Option<TableDifference>, TransferError> {
    let (mut source_rows, mut target_rows, mut differing) = (0, 0, Vec::new());
    let keys: Vec<_> = touched.keys.iter().collect();
    for keys in keys.chunks(AT_ONCE) {
        let columns = columns(keys, touched.key.len());
        let parameters: Vec<&(dyn ToSql + Sync)> = columns.iter().map(|column| column as &(dyn ToSql + Sync)).collect();
        let (one, other) = tokio::try_join!(here.rows(&parameters), there.rows(&parameters))?;
        source_rows += one.len();
        target_rows += other.len();
        let all = one.keys().chain(other.keys().filter(|key| !one.contains_key(*key)));
        differing.extend(all.filter(|key| one.get(*key) != other.get(*key)).cloned());
        for check in checks {
            let join = format!("join {} on {}", there.keys.from, there.keys.is_one("child"));
            check.run(there.end, &join, &parameters).await?;
        }
    }
    differing.truncate(KEYS_MAX);
    Ok((!differing.is_empty()).then(|| TableDifference {
        table: here.name.clone(),
        source_rows: i64::try_from(source_rows).unwrap_or(i64::MAX),
        target_rows: i64::try_from(target_rows).unwrap_or(i64::MAX),
        keys: differing,
    }))
}

/// What the stream tells is the database's text in UTF-8; what is not, no row has.
fn text(value: &[u8]) -> &str {
    std::str::from_utf8(value).unwrap_or_default()
}

/// Keys as the parameters of a statement, column by column.
pub(super) fn columns<'a>(keys: &[&'a Key], width: usize) -> Vec<Vec<&'a str>> {
    let of = |column: usize| keys.iter().map(|key| text(&key[column])).collect();
    (0..width).map(of).collect()
}

/// How rows of a table are found by keys that are told as text.
#[derive(Debug)]
pub(super) struct Keys {
    /// The keys that are looked for, as `k`.
    pub(super) from: String,
    /// The condition that `{row}` has one of them.
    is_one: String,
    /// The key's columns, quoted.
    names: Vec<String>,
}

impl Keys {
    pub(super) fn of(table: &Table, key: &[String]) -> Result<Self, TransferError> {
        let mut is_one = Vec::new();
        let mut names = Vec::new();
        for (place, name) in key.iter().enumerate() {
            let column = table.columns.iter().find(|column| column.name == *name);
            let column = column.ok_or_else(|| TransferError::Structure {
                what: format!("lacks the column {name} of {}", table.name),
            })?;
            is_one.push(format!("{{row}}.{} = k.c{place}::{}", column.quoted, column.kind));
            names.push(column.quoted.clone());
        }
        let from = match key.len() {
            // One row for each tenant, whose key is nothing else.
            0 => "(values (true)) as k (c)".to_owned(),
            width => {
                let arrays: Vec<_> = (1..=width)
                    .map(|place| format!("${place}::pg_catalog.text[]"))
                    .collect();
                let columns: Vec<_> = (0..width).map(|place| format!("c{place}")).collect();
                // Several arrays at once it takes by this name only.
                format!("unnest({}) as k ({})", arrays.join(", "), columns.join(", "))
            }
        };
        let is_one = match is_one.is_empty() {
            true => "true".to_owned(),
            false => is_one.join(" and "),
        };
        debug_assert!(!key.iter().any(|name| name == TENANT), "the tenant is no part of it");
        Ok(Self { from, is_one, names })
    }

    /// Of how many columns a key is.
    pub(super) fn width(&self) -> usize {
        self.names.len()
    }

    /// The key of a row `t`, column by column as text, each with a comma behind it. They have names of their own, whatever the table calls them.
    pub(super) fn as_text(&self) -> String {
        self.names
            .iter()
            .enumerate()
            .map(|(place, name)| format!("t.{name}::pg_catalog.text as c{place}, "))
            .collect()
    }

    /// The same as [`from`](Self::from), with arrays that stand in the statement: one of each column.
    pub(super) fn those_of(&self, arrays: &[String]) -> String {
        let mut from = self.from.clone();
        for (place, array) in arrays.iter().enumerate().rev() {
            from = from.replacen(&format!("${}::", place + 1), &format!("{array}::"), 1);
        }
        from
    }

    /// The condition that a row has one of the keys.
    pub(super) fn is_one(&self, row: &str) -> String {
        self.is_one.replace("{row}", row)
    }
}

/// One side of a table.
struct Lookup<'a> {
    end: End<'a>,
    name: String,
    sql: String,
    keys: Keys,
}

impl<'a> Lookup<'a> {
    fn new(
        end: End<'a>,
        table: &Table,
        touched: &TouchedTable,
        tenant: TenantId,
        digest: Digest,
    ) -> Result<Self, TransferError> {
        let keys = Keys::of(table, &touched.key)?;
        let columns: Vec<_> = table
            .columns
            .iter()
            .map(|column| format!("o.{}", column.quoted))
            .collect();
        let key: Vec<_> = keys.names.iter().map(|name| format!("t.{name}")).collect();
        let sql = format!(
            "select row({})::pg_catalog.text, {} from (select {} from {} join {} as o on {} where o.{}) as t",
            key.join(", "),
            digest.of(WHOLE_ROW),
            columns.join(", "),
            keys.from,
            table.quoted,
            keys.is_one("o"),
            of(tenant),
        );
        Ok(Self {
            end,
            name: table.name.clone(),
            sql,
            keys,
        })
    }

    async fn rows(&self, parameters: &[&(dyn ToSql + Sync)]) -> Result<BTreeMap<String, i64>, SqlError> {
        let typed: Vec<_> = parameters.iter().map(|column| (*column, Type::TEXT_ARRAY)).collect();
        let rows = self.end.client.query_typed(&self.sql, &typed).await;
        let rows = rows.doing("compare rows that were written lately")?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }
}
