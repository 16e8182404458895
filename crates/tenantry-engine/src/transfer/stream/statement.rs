//! The statements that write rows. Parameters have the types of their columns, so that values go as text.

use super::table::{Column, Table};

/// What a prepared statement does to its table.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Shape {
    /// Inserts so many rows.
    Insert(usize),
    /// Sets these columns of the row with a key: the columns first, the key's after them.
    Update(Vec<usize>),
    /// Deletes the row with a key.
    Delete,
}

/// How many rows one statement inserts, most first: few statements for any number of rows.
pub(super) const INSERT_ROWS: [usize; 4] = [64, 16, 4, 1];
/// A statement has at most 65,535 parameters.
const PARAMETERS_MAX: usize = 30_000;

/// How many of these rows the next statement inserts.
pub(super) fn insert_rows(table: &Table, rows: usize) -> usize {
    INSERT_ROWS
        .into_iter()
        .find(|&count| count <= rows && count * table.columns.len() <= PARAMETERS_MAX)
        .unwrap_or(1)
}

impl Shape {
    /// Its text.
    pub(super) fn sql(&self, table: &Table) -> String {
        match self {
            Self::Insert(rows) => insert(table, *rows),
            Self::Update(set) => update(table, set),
            Self::Delete => format!("delete from {} where {}", table.quoted, key(table, 1)),
        }
    }
}

fn insert(table: &Table, rows: usize) -> String {
    let width = table.columns.len();
    let names: Vec<_> = table.columns.iter().map(|column| column.quoted.to_string()).collect();
    let rows: Vec<_> = (0..rows)
        .map(|row| {
            let places: Vec<_> = (1..=width).map(|column| format!("${}", row * width + column)).collect();
            format!("({})", places.join(", "))
        })
        .collect();
    format!(
        "insert into {} ({}) overriding system value values {}",
        table.quoted,
        names.join(", "),
        rows.join(", ")
    )
}

fn update(table: &Table, set: &[usize]) -> String {
    let assignments: Vec<_> = set
        .iter()
        .enumerate()
        .map(|(place, &column)| format!("{} = ${}", table.columns[column].quoted, place + 1))
        .collect();
    format!(
        "update {} set {} where {}",
        table.quoted,
        assignments.join(", "),
        key(table, set.len() + 1)
    )
}

fn key(table: &Table, first: usize) -> String {
    let is_key = |column: &&Column| column.key;
    let conditions: Vec<_> = table
        .columns
        .iter()
        .filter(is_key)
        .enumerate()
        .map(|(place, column)| format!("{} = ${}", column.quoted, first + place))
        .collect();
    conditions.join(" and ")
}

#[cfg(test)]
mod tests {
    use tenantry_sql::{Identifier, Qualified};

    use super::*;

    fn table(width: usize) -> Table {
        let column = |number: usize| Column {
            quoted: Identifier::new(format!("c{number}")).unwrap(),
            key: number < 2,
            fixed: false,
        };
        Table {
            name: "note".to_owned(),
            quoted: Qualified::new("t_1", "note").unwrap(),
            columns: (0..width).map(column).collect(),
            tenant: 0,
        }
    }

    #[test]
    fn each_shape_has_its_text() {
        let table = table(3);
        assert_eq!(
            Shape::Insert(2).sql(&table),
            r#"insert into "t_1"."note" ("c0", "c1", "c2") overriding system value values ($1, $2, $3), ($4, $5, $6)"#
        );
        assert_eq!(
            Shape::Update(vec![1, 2]).sql(&table),
            r#"update "t_1"."note" set "c1" = $1, "c2" = $2 where "c0" = $3 and "c1" = $4"#
        );
        assert_eq!(
            Shape::Delete.sql(&table),
            r#"delete from "t_1"."note" where "c0" = $1 and "c1" = $2"#
        );
    }

    #[test]
    fn many_rows_take_few_statements_and_a_wide_table_no_more_parameters_than_there_are() {
        assert_eq!(insert_rows(&table(3), 1000), 64);
        assert_eq!(insert_rows(&table(3), 63), 16);
        assert_eq!(insert_rows(&table(3), 3), 1);
        assert_eq!(insert_rows(&table(1_600), 64), 16);
    }
}
