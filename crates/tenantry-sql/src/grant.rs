//! What the application role may do.

use crate::{Identifier, Qualified};

/// The statements that let the application role use a schema's tables; making objects there it may not.
pub fn schema_usage(schema: &Identifier, app_role: &Identifier) -> Vec<String> {
    vec![format!("grant usage on schema {schema} to {app_role}")]
}

/// The statements that give the application role its rights on an isolated table: rows of all columns, but no update of
/// the tenant column. `columns` are the table's columns that may be updated, without the tenant column and the generated
/// ones.
///
/// TRUNCATE ignores row security, REFERENCES probes rows and TRIGGER runs code: none of them is given. Rights from before
/// are taken first, so that running this again after a column came or went leaves exactly these.
pub fn isolated_table_grants(table: &Qualified, columns: &[Identifier], app_role: &Identifier) -> Vec<String> {
    let mut statements = vec![
        format!("revoke all on table {table} from public, {app_role}"),
        format!("grant select, insert, delete on table {table} to {app_role}"),
    ];
    if !columns.is_empty() {
        let columns: Vec<String> = columns.iter().map(Identifier::to_string).collect();
        statements.push(format!(
            "grant update ({}) on table {table} to {app_role}",
            columns.join(", ")
        ));
    }
    statements
}

/// The statements that let the application role read a reference table, and nothing else.
pub fn reference_table_grants(table: &Qualified, app_role: &Identifier) -> Vec<String> {
    vec![
        format!("revoke all on table {table} from public, {app_role}"),
        format!("grant select on table {table} to {app_role}"),
    ]
}

/// The statements that let the application role take the next value of a sequence; neither read nor set it.
pub fn sequence_usage(sequence: &Qualified, app_role: &Identifier) -> Vec<String> {
    vec![
        format!("revoke all on sequence {sequence} from public, {app_role}"),
        format!("grant usage on sequence {sequence} to {app_role}"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tenant_column_is_updatable_only_if_asked_for() {
        let table = Qualified::new("app", "contact").unwrap();
        let app = Identifier::new("app_role").unwrap();
        let columns = [Identifier::new("name").unwrap(), Identifier::new("e mail").unwrap()];
        let grants = isolated_table_grants(&table, &columns, &app).join(";\n");
        assert!(
            grants.contains("grant update (\"name\", \"e mail\") on table"),
            "{grants}"
        );
        assert!(!isolated_table_grants(&table, &[], &app).join(";").contains("update"));
    }
}
