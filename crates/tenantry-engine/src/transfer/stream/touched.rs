//! Which rows an applier has written since a moment: what is to be compared again when both sides were compared at that moment.

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;
use tenantry_wire::replication::{Tuple, Value};

use super::{StreamError, row::structure, table::Table};

/// So many keys are kept. Who writes more meanwhile has both sides compared anew.
const KEYS_MAX: usize = 200_000;

/// A row's key as the source writes it, `tenant_id` left out, in the order of [`TouchedTable::key`].
pub type Key = Vec<Bytes>;

/// The rows that an applier has written since a moment.
#[derive(Default, Debug)]
pub struct Touched {
    tables: BTreeMap<String, TouchedTable>,
    keys: usize,
    is_full: bool,
}

/// The same of one table.
#[derive(Default, Debug)]
pub struct TouchedTable {
    /// The key's columns by plain name, without `tenant_id`.
    pub key: Vec<String>,
    /// The keys: of rows that came, changed or went; both where a row's key changed.
    pub keys: HashSet<Key>,
    /// How many rows it has more than at that moment.
    pub gained: i64,
}

impl Touched {
    /// The tables in which something was written, by plain name.
    pub fn tables(&self) -> &BTreeMap<String, TouchedTable> {
        &self.tables
    }

    /// How many rows; `None` where they were too many to be kept.
    pub fn keys(&self) -> Option<usize> {
        (!self.is_full).then_some(self.keys)
    }

    /// Notes a row by the values that name it. `known` has those which `tuple` does not repeat.
    pub(super) fn note(
        &mut self,
        table: &Table,
        tuple: &Tuple,
        known: Option<&Tuple>,
        gained: i64,
    ) -> Result<(), StreamError> {
        let of_table = self.tables.entry(table.name.clone()).or_insert_with(|| TouchedTable {
            key: key_columns(table).map(|(_, name)| name.to_owned()).collect(),
            ..TouchedTable::default()
        });
        of_table.gained += gained;
        if self.is_full {
            return Ok(());
        }
        let mut key = Key::new();
        for (place, _) in key_columns(table) {
            let values = [Some(tuple), known].into_iter().flatten();
            let text = values
                .filter_map(|tuple| tuple.0.get(place))
                .find_map(|value| match value {
                    Value::Text(text) => Some(text.clone()),
                    _ => None,
                });
            let unknown = || structure(table, "told a row without its key".to_owned());
            key.push(text.ok_or_else(unknown)?);
        }
        self.keys += usize::from(of_table.keys.insert(key));
        if self.keys > KEYS_MAX {
            self.is_full = true;
            for table in self.tables.values_mut() {
                table.keys = HashSet::new();
            }
        }
        Ok(())
    }
}

fn key_columns(table: &Table) -> impl Iterator<Item = (usize, &str)> {
    let columns = table.columns.iter().enumerate();
    columns
        .filter(|(place, column)| column.key && *place != table.tenant)
        .map(|(place, column)| (place, column.quoted.as_str()))
}

#[cfg(test)]
mod tests {
    use tenantry_sql::{Identifier, Qualified};

    use super::{super::table::Column, *};

    fn table() -> Table {
        let column = |name: &str, key| Column {
            quoted: Identifier::new(name).unwrap(),
            key,
            fixed: false,
        };
        Table {
            name: "note".to_owned(),
            quoted: Qualified::new("t_1", "note").unwrap(),
            columns: vec![column("tenant_id", true), column("id", true), column("body", false)],
            tenant: 0,
            bound: None,
        }
    }

    fn tuple(id: Option<&'static str>) -> Tuple {
        let id = id.map_or(Value::Unchanged, |id| Value::Text(Bytes::from_static(id.as_bytes())));
        Tuple(vec![Value::Text(Bytes::from_static(b"t")), id, Value::Null])
    }

    #[test]
    fn a_row_counts_once_by_its_key_without_the_tenant() {
        let (table, mut touched) = (table(), Touched::default());
        touched.note(&table, &tuple(Some("1")), None, 1).unwrap();
        touched.note(&table, &tuple(Some("1")), None, 0).unwrap();
        touched.note(&table, &tuple(None), Some(&tuple(Some("2"))), 0).unwrap();
        assert!(touched.note(&table, &tuple(None), None, 0).is_err());
        let note = &touched.tables()["note"];
        assert_eq!(
            (touched.keys(), note.gained, &note.key),
            (Some(2), 1, &vec!["id".to_owned()])
        );
        assert!(note.keys.contains(&vec![Bytes::from_static(b"2")]));
    }

    #[test]
    fn too_many_are_said_to_be_and_take_no_memory() {
        let (table, mut touched) = (table(), Touched::default());
        for id in 0..=KEYS_MAX {
            let id = Value::Text(Bytes::from(id.to_string()));
            let tuple = Tuple(vec![Value::Text(Bytes::from_static(b"t")), id, Value::Null]);
            touched.note(&table, &tuple, None, 1).unwrap();
        }
        assert_eq!(touched.keys(), None);
        assert!(touched.tables()["note"].keys.is_empty());
        assert_eq!(touched.tables()["note"].gained, 200_001);
    }
}
