//! A table's key in the order of its index, by which a copy is divided and gone on with.
//!
//! Both homes have to order keys alike, whatever their collations, their versions and their libraries: so only types that every server orders
//! in the one way are taken, and text only where the index orders it by its bytes.

use std::collections::BTreeMap;

use tenantry_core::TenantId;
use tenantry_sql::{Identifier, Literal};
use tokio_postgres::{Client, Row, types::Type};

use super::{Table, end::of};
use crate::sql_error::{Doing, SqlError};

const KEYS: &str = include_str!("key/ordered.sql");

/// The key of a table's row, `tenant_id` left out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct LastKey {
    /// Plain names, in the order of the key's index.
    pub(super) columns: Vec<String>,
    /// As PostgreSQL writes them in the formats of a transfer.
    pub(super) values: Vec<String>,
}

/// How a table's rows are ordered in both homes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct OrderedKey {
    columns: Vec<OrderedColumn>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct OrderedColumn {
    name: String,
    quoted: String,
    kind: String,
    is_text: bool,
}

/// The columns of each table's key, and whether each is text; by the table's plain name. A table that can't be divided has none.
pub(super) type Ordered = BTreeMap<String, Vec<(String, bool)>>;

/// Which tables of a schema can be divided.
pub(super) async fn ordered(client: &Client, schema: &Identifier) -> Result<Ordered, SqlError> {
    let rows = client
        .query_typed(KEYS, &[(&schema.as_str(), Type::TEXT)])
        .await
        .doing("read how the tables are ordered")?;
    let columns = |row: &Row| {
        let (names, are_text): (Vec<String>, Vec<bool>) = (row.get(1), row.get(2));
        (
            row.get::<_, String>(0),
            names.into_iter().zip(are_text).collect::<Vec<_>>(),
        )
    };
    Ok(rows.iter().map(columns).collect())
}

impl OrderedKey {
    /// The key of a table, where it can be divided.
    pub(super) fn of(table: &Table, ordered: &Ordered) -> Option<Self> {
        let key = ordered.get(&table.name)?.iter().map(|(name, is_text)| {
            let column = table.columns.iter().find(|column| column.name == *name)?;
            Some(OrderedColumn {
                name: name.clone(),
                quoted: column.quoted.clone(),
                kind: column.kind.clone(),
                is_text: *is_text,
            })
        });
        let columns: Option<Vec<_>> = key.collect();
        Some(Self { columns: columns? })
    }

    /// Whether a key that was noted is one of these.
    pub(super) fn is_of(&self, last: &LastKey) -> bool {
        self.columns.iter().map(|column| &column.name).eq(&last.columns) && last.values.len() == last.columns.len()
    }

    /// The tenant's rows behind a key, up to another one, as a condition on the table.
    pub(super) fn between(&self, tenant: TenantId, after: Option<&LastKey>, until: Option<&LastKey>) -> String {
        let mut conditions = of(tenant);
        let columns: Vec<_> = self.columns.iter().map(OrderedColumn::compared).collect();
        for (is, key) in [(">", after), ("<=", until)] {
            if let Some(key) = key {
                let values = self.columns.iter().zip(&key.values);
                let values = values.map(|(column, value)| constant(value, &column.kind, column.is_text));
                conditions += &format!(" and {} {is} {}", row(&columns), row(&values.collect::<Vec<_>>()));
            }
        }
        conditions
    }

    /// The key of the tenant's row that stands so many rows behind another one, or from the first on; `None` where there are fewer.
    pub(super) async fn behind(
        &self,
        client: &Client,
        table: &Table,
        tenant: TenantId,
        after: Option<&LastKey>,
        rows: u64,
    ) -> Result<Option<LastKey>, SqlError> {
        let values = self
            .columns
            .iter()
            .map(|column| format!("{}::pg_catalog.text", column.quoted));
        // Without the table's name it would be ordered by the texts.
        let order = self.columns.iter().map(|column| format!("r.{}", column.compared()));
        let select = format!(
            "select {} from {} as r where {} order by {} offset {} limit 1",
            values.collect::<Vec<_>>().join(", "),
            table.quoted,
            self.between(tenant, after, None),
            order.collect::<Vec<_>>().join(", "),
            rows.saturating_sub(1)
        );
        let found = client
            .query_opt(&select, &[])
            .await
            .doing("look where a piece of a table ends")?;
        Ok(found.map(|row| LastKey {
            columns: self.columns.iter().map(|column| column.name.clone()).collect(),
            values: (0..self.columns.len())
                .map(|place| row.get::<_, String>(place))
                .collect(),
        }))
    }
}

impl OrderedColumn {
    fn compared(&self) -> String {
        compared(&self.quoted, self.is_text)
    }
}

/// A value in a comparison of keys: text by its bytes.
pub(super) fn compared(value: &str, is_text: bool) -> String {
    match is_text {
        true => format!("{value} collate pg_catalog.\"C\""),
        false => value.to_owned(),
    }
}

/// A key's value as a constant of its column's type.
pub(super) fn constant(value: &str, kind: &str, is_text: bool) -> String {
    let literal = Literal::new(value).expect("what PostgreSQL writes holds no zero byte");
    compared(&format!("{literal}::{kind}"), is_text)
}

/// Values to be compared from the left to the right.
pub(super) fn row(values: &[String]) -> String {
    format!("({})", values.join(", "))
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn key() -> OrderedKey {
        let column = |name: &str, kind: &str, is_text| OrderedColumn {
            name: name.to_owned(),
            quoted: format!("\"{name}\""),
            kind: kind.to_owned(),
            is_text,
        };
        OrderedKey {
            columns: vec![column("part", "text", true), column("id", "bigint", false)],
        }
    }

    fn last(part: &str, id: &str) -> LastKey {
        LastKey {
            columns: vec!["part".to_owned(), "id".to_owned()],
            values: vec![part.to_owned(), id.to_owned()],
        }
    }

    #[test]
    fn rows_are_compared_by_the_types_of_their_columns_and_text_by_its_bytes() {
        let tenant = TenantId::from_uuid(Uuid::from_u128(1));
        assert_eq!(key().between(tenant, None, None), of(tenant));
        assert_eq!(
            key().between(tenant, Some(&last("it's", "7")), Some(&last("o", "-1"))),
            format!(
                "{} and (\"part\" collate pg_catalog.\"C\", \"id\") > ('it''s'::text collate pg_catalog.\"C\", '7'::bigint) \
                 and (\"part\" collate pg_catalog.\"C\", \"id\") <= ('o'::text collate pg_catalog.\"C\", '-1'::bigint)",
                of(tenant)
            )
        );
    }

    #[test]
    fn a_key_that_was_noted_of_other_columns_is_none_of_these() {
        assert!(key().is_of(&last("a", "1")));
        let mut other = last("a", "1");
        other.columns.reverse();
        assert!(!key().is_of(&other));
        let mut short = last("a", "1");
        short.columns.pop();
        assert!(!key().is_of(&short));
    }
}
