//! All there is in a schema, to be compared word for word.

use std::collections::BTreeMap;

use serde_json::Value;
use tokio_postgres::{Client, types::Type};

use crate::{
    isolate::{ident, literal},
    migrate::{self, ApplyError, Patience, Target},
};

const QUERY: &str = include_str!("census.sql");

/// Rows that a script may hold, as text: reference tables, not data.
const ROWS_BYTES_MAX: usize = 256 * 1024;

/// What one schema holds.
#[derive(Debug, PartialEq)]
pub(super) struct Census {
    server_major: i32,
    objects: Vec<(String, String, Value)>,
    /// By table, in the order in which they were written.
    rows: BTreeMap<String, String>,
    /// By sequence: what it gave last, and whether it has given it.
    sequences: BTreeMap<String, (i64, bool)>,
}

impl Census {
    pub(super) async fn take(client: &Client, target: &Target) -> Result<Self, ApplyError> {
        let head = migrate::begin(target, &Patience::default()) + &migrate::act_as(&target.owner);
        client.batch_execute(&head).await?;
        let schema = target.schema.to_string();
        let objects = client.query_typed(QUERY, &[(&schema, Type::TEXT)]).await?;
        let kinds = client
            .query_typed(
                "select relname::text, relkind::text, current_setting('server_version_num')::int4 / 10000
                   from pg_class where relnamespace = $1::text::regnamespace and relkind in ('r', 'S')
                  union all select '', '', current_setting('server_version_num')::int4 / 10000",
                &[(&schema, Type::TEXT)],
            )
            .await?;
        let mut census = Self {
            server_major: 0,
            objects: objects.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect(),
            rows: BTreeMap::new(),
            sequences: BTreeMap::new(),
        };
        for kind in kinds {
            let (name, kind, major): (String, String, i32) = (kind.get(0), kind.get(1), kind.get(2));
            census.server_major = major;
            let quoted = if name.is_empty() { String::new() } else { ident(&name) };
            match kind.as_str() {
                "r" => {
                    let sql = format!("select string_agg((t.*)::text, e'\\n' order by t.ctid) from only {quoted} t");
                    if let Some(rows) = client.query_one(&sql, &[]).await?.get::<_, Option<String>>(0) {
                        census.rows.insert(name, rows);
                    }
                }
                "S" => {
                    let sql = format!("select last_value, is_called from {quoted}");
                    let row = client.query_one(&sql, &[]).await?;
                    census.sequences.insert(name, (row.get(0), row.get(1)));
                }
                _ => {}
            }
        }
        client.batch_execute("commit").await?;
        Ok(census)
    }

    pub(super) fn server_major(&self) -> i32 {
        self.server_major
    }

    pub(super) fn has_rows(&self) -> bool {
        !self.rows.is_empty()
    }

    /// Whether a script may hold its rows.
    pub(super) fn is_small(&self) -> bool {
        self.rows.values().map(String::len).sum::<usize>() <= ROWS_BYTES_MAX
    }

    pub(super) fn has_rows_in(&self, table: &str) -> bool {
        self.rows.contains_key(table)
    }

    /// What puts the sequences where they are; those that were never asked say nothing.
    pub(super) fn set_sequences(&self) -> Vec<String> {
        let moved = self.sequences.iter().filter(|(_, (_, is_called))| *is_called);
        moved
            .map(|(name, (last, _))| format!("select setval({}, {last})", literal(&ident(name))))
            .collect()
    }

    /// The first thing that is not the same.
    pub(super) fn differs_from(&self, other: &Self) -> Option<String> {
        if self == other {
            return None;
        }
        let objects = || {
            let not_in = |these: &[(String, String, Value)], those: &[(String, String, Value)]| {
                these.iter().find(|one| !those.contains(one)).cloned()
            };
            let (kind, name, _) =
                not_in(&self.objects, &other.objects).or_else(|| not_in(&other.objects, &self.objects))?;
            let said = |census: &Self| {
                let mut found = census.objects.iter().filter(|one| one.0 == kind && one.1 == name);
                found
                    .next()
                    .map_or("nothing".to_owned(), |(_, _, what)| what.to_string())
            };
            Some(format!("{kind} {name} is {} instead of {}", said(self), said(other)))
        };
        let rows = || {
            let tables = self.rows.keys().chain(other.rows.keys());
            let mut differ = tables.filter(|table| self.rows.get(*table) != other.rows.get(*table));
            differ.next().map(|table| format!("rows of {table}"))
        };
        Some(objects().or_else(rows).unwrap_or_else(|| "a sequence".to_owned()))
    }
}
