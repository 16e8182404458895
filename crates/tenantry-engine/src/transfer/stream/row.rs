//! From a change to a statement's parameters, checked before anything is sent.

use bytes::{Bytes, BytesMut};
use tenantry_core::TenantId;
use tenantry_wire::replication::{Old, Tuple, Value};
use tokio_postgres::types::{Format, IsNull, ToSql, Type, to_sql_checked};

use super::{StreamError, statement::Shape, table::Table};

/// A value as text, which the target reads as what the column is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct TextValue(pub(super) Option<Bytes>);

impl ToSql for TextValue {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        Ok(match &self.0 {
            Some(text) => {
                out.extend_from_slice(text);
                IsNull::No
            }
            None => IsNull::Yes,
        })
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Text
    }

    to_sql_checked!();
}

/// How many bytes they take, roughly.
pub(super) fn bytes(values: &[TextValue]) -> usize {
    values
        .iter()
        .map(|value| 8 + value.0.as_ref().map_or(0, Bytes::len))
        .sum()
}

/// The rows of one tenant.
pub(super) struct Rows {
    /// As PostgreSQL writes it.
    tenant: String,
}

impl Rows {
    pub(super) fn of(tenant: TenantId) -> Self {
        Self {
            tenant: tenant.to_string(),
        }
    }

    /// The values of a new row.
    pub(super) fn insert(&self, table: &Table, new: &Tuple) -> Result<Vec<TextValue>, StreamError> {
        self.check(table, new)?;
        new.0.iter().map(|value| known(table, value)).collect()
    }

    /// What a changed row sets, and which row it is; nothing where nothing is to be set.
    pub(super) fn update(
        &self,
        table: &Table,
        old: Option<&Old>,
        new: &Tuple,
    ) -> Result<Option<(Shape, Vec<TextValue>)>, StreamError> {
        self.check(table, new)?;
        if let Some(old) = old {
            self.check(table, old.tuple())?;
        }
        let identity = old.map_or(new, Old::tuple);
        let (mut set, mut values) = (Vec::new(), Vec::new());
        for (place, column) in table.columns.iter().enumerate() {
            let moved = column.key && identity.0[place] != new.0[place];
            if new.0[place] == Value::Unchanged || column.key && !moved {
                continue;
            }
            // The source can't change it, so it is as it was; and the target can't set it.
            if column.fixed {
                continue;
            }
            set.push(place);
            values.push(known(table, &new.0[place])?);
        }
        if set.is_empty() {
            return Ok(None);
        }
        self.push_key(table, identity, &mut values)?;
        Ok(Some((Shape::Update(set), values)))
    }

    /// Which row went.
    pub(super) fn delete(&self, table: &Table, old: &Old) -> Result<Vec<TextValue>, StreamError> {
        self.check(table, old.tuple())?;
        let mut values = Vec::new();
        self.push_key(table, old.tuple(), &mut values)?;
        Ok(values)
    }

    /// The keys that a row had and has, in the order of the bound of its table; nothing where there is none or the key stayed.
    pub(super) fn moved(&self, table: &Table, old: &Old, new: &Tuple) -> Result<Option<Vec<TextValue>>, StreamError> {
        let Some(bound) = &table.bound else {
            return Ok(None);
        };
        let old = old.tuple();
        self.check(table, old)?;
        self.check(table, new)?;
        if bound.key.iter().all(|&place| old.0[place] == new.0[place]) {
            return Ok(None);
        }
        let mut values = Vec::with_capacity(2 * bound.key.len());
        for tuple in [old, new] {
            for &place in &bound.key {
                values.push(named(table, place, &tuple.0[place])?);
            }
        }
        Ok(Some(values))
    }

    fn push_key(&self, table: &Table, tuple: &Tuple, values: &mut Vec<TextValue>) -> Result<(), StreamError> {
        for (place, value) in tuple.0.iter().enumerate() {
            if table.columns[place].key {
                values.push(named(table, place, value)?);
            }
        }
        Ok(())
    }

    /// The row has the table's columns and is the tenant's.
    fn check(&self, table: &Table, tuple: &Tuple) -> Result<(), StreamError> {
        if tuple.0.len() != table.columns.len() {
            return Err(structure(table, "told a row of another width".to_owned()));
        }
        match &tuple.0[table.tenant] {
            Value::Text(text) if *text == self.tenant.as_bytes() => Ok(()),
            _ => Err(StreamError::Foreign {
                table: table.name.clone(),
            }),
        }
    }
}

/// A value of the key, which always has one.
fn named(table: &Table, place: usize, value: &Value) -> Result<TextValue, StreamError> {
    let value = known(table, value)?;
    match value.0 {
        Some(_) => Ok(value),
        None => {
            let column = &table.columns[place].quoted;
            Err(structure(table, format!("told a row without its key column {column}")))
        }
    }
}

fn known(table: &Table, value: &Value) -> Result<TextValue, StreamError> {
    match value {
        Value::Text(text) => Ok(TextValue(Some(text.clone()))),
        Value::Null => Ok(TextValue(None)),
        // A value that is not told where it has to be, or in a format that was not asked for.
        Value::Unchanged => Err(structure(table, "told a row without a value that it needs".to_owned())),
        Value::Binary(_) => Err(structure(table, "told a value in the binary format".to_owned())),
    }
}

pub(super) fn structure(table: &Table, what: String) -> StreamError {
    StreamError::Structure {
        table: table.name.clone(),
        what,
    }
}

#[cfg(test)]
mod tests {
    use tenantry_sql::{Identifier, Qualified};
    use uuid::Uuid;

    use super::{super::table::Column, *};

    fn table() -> Table {
        let column = |name: &str, key, fixed| Column {
            quoted: Identifier::new(name).unwrap(),
            key,
            fixed,
        };
        Table {
            name: "note".to_owned(),
            quoted: Qualified::new("t_1", "note").unwrap(),
            columns: vec![
                column("tenant_id", true, false),
                column("id", true, false),
                column("number", false, true),
                column("body", false, false),
            ],
            tenant: 0,
            bound: None,
        }
    }

    fn rows() -> Rows {
        Rows::of(TenantId::from_uuid(Uuid::from_u128(1)))
    }

    const OURS: &str = "00000000-0000-0000-0000-000000000001";
    const THEIRS: &str = "00000000-0000-0000-0000-000000000002";

    fn value(text: &str) -> Value {
        match text {
            "null" => Value::Null,
            "unchanged" => Value::Unchanged,
            text => Value::Text(Bytes::copy_from_slice(text.as_bytes())),
        }
    }

    fn tuple(values: [&str; 4]) -> Tuple {
        Tuple(values.map(value).to_vec())
    }

    fn texts(values: &[TextValue]) -> Vec<&str> {
        values
            .iter()
            .map(|value| {
                value
                    .0
                    .as_ref()
                    .map_or("null", |text| std::str::from_utf8(text).unwrap())
            })
            .collect()
    }

    #[test]
    fn an_update_sets_what_changed_or_may_have_and_names_the_row_by_what_it_was() {
        let (table, rows) = (table(), rows());
        let (shape, values) = rows
            .update(&table, None, &tuple([OURS, "1", "7", "b"]))
            .unwrap()
            .unwrap();
        assert_eq!((shape, texts(&values)), (Shape::Update(vec![3]), vec!["b", OURS, "1"]));
        let old = Old::Key(tuple([OURS, "1", "null", "null"]));
        let (shape, values) = rows
            .update(&table, Some(&old), &tuple([OURS, "2", "7", "unchanged"]))
            .unwrap()
            .unwrap();
        assert_eq!((shape, texts(&values)), (Shape::Update(vec![1]), vec!["2", OURS, "1"]));
        let nothing = rows
            .update(&table, None, &tuple([OURS, "1", "7", "unchanged"]))
            .unwrap();
        assert_eq!(nothing, None);
    }

    #[test]
    fn no_change_of_another_tenants_row_passes() {
        let (table, rows) = (table(), rows());
        let theirs = tuple([THEIRS, "1", "7", "b"]);
        let ours = tuple([OURS, "1", "7", "b"]);
        let old = Old::Key(theirs.clone());
        let foreign = |refused: StreamError| matches!(refused, StreamError::Foreign { .. });
        assert!(foreign(rows.insert(&table, &theirs).unwrap_err()));
        assert!(foreign(rows.update(&table, None, &theirs).unwrap_err()));
        assert!(foreign(rows.update(&table, Some(&old), &ours).unwrap_err()));
        assert!(foreign(rows.delete(&table, &old).unwrap_err()));
        let unknown = tuple(["unchanged", "1", "7", "b"]);
        assert!(foreign(rows.insert(&table, &unknown).unwrap_err()));
    }

    #[test]
    fn a_row_that_does_not_say_enough_is_refused() {
        let (table, rows) = (table(), rows());
        assert!(rows.insert(&table, &tuple([OURS, "1", "7", "unchanged"])).is_err());
        assert!(rows.insert(&table, &Tuple(vec![value(OURS)])).is_err());
        assert!(
            rows.delete(&table, &Old::Key(tuple([OURS, "null", "null", "null"])))
                .is_err()
        );
        let binary = Tuple(vec![value(OURS), value("1"), value("7"), Value::Binary(Bytes::new())]);
        assert!(rows.insert(&table, &binary).is_err());
    }
}
