//! The statements that write rows. Parameters have the types of their columns, so that values go as text.
//!
//! Where a table is there up to a key, each of them leaves out what is beyond: which rows those are the target says itself. A change or a
//! deletion still tells one row then, so that one which finds nothing where something has to be shows as ever.

use super::table::{Bound, Column, Table};

/// What a prepared statement does to its table.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Shape {
    /// Inserts so many rows.
    Insert(usize),
    /// Sets these columns of the row with a key: the columns first, the key's after them.
    Update(Vec<usize>),
    /// Deletes the row with a key.
    Delete,
    /// Asks whether two keys, one after the other, are within the bound.
    AreThere,
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
            Self::Delete => delete(table),
            Self::AreThere => are_there(table),
        }
    }
}

fn insert(table: &Table, rows: usize) -> String {
    let width = table.columns.len();
    let names: Vec<_> = table.columns.iter().map(|column| column.quoted.to_string()).collect();
    let names = names.join(", ");
    // Nothing says of what type they are between a list of values and the table.
    let kind = |column: usize| {
        table
            .bound
            .as_ref()
            .map_or_else(String::new, |bound| bound.cast(column))
    };
    let rows: Vec<_> = (0..rows)
        .map(|row| {
            let places = (0..width).map(|column| format!("${}{}", row * width + column + 1, kind(column)));
            format!("({})", places.collect::<Vec<_>>().join(", "))
        })
        .collect();
    let rows = rows.join(", ");
    let insert = format!("insert into {} ({names}) overriding system value", table.quoted);
    match &table.bound {
        None => format!("{insert} values {rows}"),
        Some(bound) => {
            let is_there = bound.holds(|column| format!("r.{}", table.columns[column].quoted));
            format!("{insert} select * from (values {rows}) as r ({names}) where {is_there}")
        }
    }
}

fn update(table: &Table, set: &[usize]) -> String {
    let assignments: Vec<_> = set
        .iter()
        .enumerate()
        .map(|(place, &column)| format!("{} = ${}", table.columns[column].quoted, place + 1))
        .collect();
    let first = set.len() + 1;
    let update = format!(
        "update {} set {} where {}",
        table.quoted,
        assignments.join(", "),
        key(table, first)
    );
    unless_beyond(table, update, first)
}

fn delete(table: &Table) -> String {
    let delete = format!("delete from {} where {}", table.quoted, key(table, 1));
    unless_beyond(table, delete, 1)
}

/// Tells a row for each that the statement finds by its key, and one where the key is beyond the bound: then it has to find none.
fn unless_beyond(table: &Table, statement: String, first: usize) -> String {
    let Some(bound) = &table.bound else {
        return statement;
    };
    let parameter = |column: usize| first + keys(table).take_while(|(place, _)| *place != column).count();
    let is_there = bound.holds(|column| format!("${}{}", parameter(column), bound.cast(column)));
    format!("with written as ({statement} returning 1) select 1 from written union all select 1 where not {is_there}")
}

fn are_there(table: &Table) -> String {
    let is_there = |bound: &Bound, first: usize| {
        let parameter = |column: usize| first + bound.key.iter().take_while(|&&place| place != column).count();
        bound.holds(|column| format!("${}{}", parameter(column), bound.cast(column)))
    };
    match &table.bound {
        Some(bound) => format!(
            "select {}, {}",
            is_there(bound, 1),
            is_there(bound, bound.key.len() + 1)
        ),
        None => "select true, true".to_owned(),
    }
}

fn key(table: &Table, first: usize) -> String {
    let conditions: Vec<_> = keys(table)
        .enumerate()
        .map(|(number, (_, column))| format!("{} = ${}", column.quoted, first + number))
        .collect();
    conditions.join(" and ")
}

/// The key's columns with their places among the table's.
fn keys(table: &Table) -> impl Iterator<Item = (usize, &Column)> {
    table.columns.iter().enumerate().filter(|(_, column)| column.key)
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
            bound: None,
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
    fn what_is_beyond_the_last_key_is_left_out_by_each_shape() {
        let mut table = table(3);
        table.bound = Some(Bound {
            key: vec![1],
            last: "('7'::bigint)".to_owned(),
            kinds: ["uuid", "bigint", "text"].map(str::to_owned).to_vec(),
            are_text: vec![false],
        });
        assert_eq!(
            Shape::Insert(2).sql(&table),
            r#"insert into "t_1"."note" ("c0", "c1", "c2") overriding system value select * from (values ($1::uuid, $2::bigint, $3::text), ($4::uuid, $5::bigint, $6::text)) as r ("c0", "c1", "c2") where (r."c1") <= ('7'::bigint)"#
        );
        assert_eq!(
            Shape::Update(vec![2]).sql(&table),
            r#"with written as (update "t_1"."note" set "c2" = $1 where "c0" = $2 and "c1" = $3 returning 1) select 1 from written union all select 1 where not ($3::bigint) <= ('7'::bigint)"#
        );
        assert_eq!(
            Shape::Delete.sql(&table),
            r#"with written as (delete from "t_1"."note" where "c0" = $1 and "c1" = $2 returning 1) select 1 from written union all select 1 where not ($2::bigint) <= ('7'::bigint)"#
        );
        assert_eq!(
            Shape::AreThere.sql(&table),
            "select ($1::bigint) <= ('7'::bigint), ($2::bigint) <= ('7'::bigint)"
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
