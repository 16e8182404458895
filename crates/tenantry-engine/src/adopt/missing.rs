//! Whether the tables of a source have a place in what the migrations make, before anything is made for them.

use super::{AdoptError, Source, copy};
use crate::isolate::{Derived, IsolatedTable};

/// What the source's rows would need and the migrations do not make: `table album`, `column artist of table album`; empty where
/// every row has its place.
///
/// # Errors
///
/// [`AdoptError::Read`].
///
/// # Cancel safety
///
/// Nothing is changed.
pub async fn missing(source: &Source, derived: &Derived) -> Result<Vec<String>, AdoptError> {
    let mut missing = Vec::new();
    for table in copy::tables(source).await? {
        match derived.tables.iter().find(|made| made.name == table.name) {
            None => missing.push(format!("table {}", table.name)),
            Some(made) => {
                let without = table.column_names.iter().filter(|column| !takes(made, column));
                missing.extend(without.map(|column| format!("column {column} of table {}", table.name)));
            }
        }
    }
    Ok(missing)
}

fn takes(table: &IsolatedTable, column: &String) -> bool {
    table.columns.contains(column) && !table.generated.contains(column)
}
