//! Row security of an isolated table.
//!
//! The policies are the same in shared tables, own schemas and own databases, and name no role: they bind everybody that
//! row security binds, the tables' owner included, and need no change when a database gets another application role.

use crate::TableName;

/// The column that each isolated table has.
pub const TENANT_COLUMN: &str = "tenant_id";

/// Whose row it is. The subselect makes it one evaluation per statement and keeps the index condition. Permissive policies
/// and the floor hold the very same text, which PostgreSQL then evaluates once for both.
pub const TENANT_PREDICATE: &str = "tenant_id = (select tenantry.tenant_id())";

/// Whether the session's role may write; for a viewer its evaluation is an error with a sentence.
pub const WRITE_PREDICATE: &str = "(select tenantry.may_write())";

/// The same for new rows, where the floor has been checked: PostgreSQL checks restrictive policies in the order of their names,
/// each with an evaluation of its own, so this one asks only what the floor did not.
pub const WRITE_CHECK: &str = "(select tenantry.binding_may_write())";

/// The names of the policies of an isolated table; whatever else stands on one is not ours.
pub const POLICY_NAMES: [&str; 8] = [
    "tenantry_select",
    "tenantry_insert",
    "tenantry_update",
    "tenantry_delete",
    "tenantry_floor",
    "tenantry_write_insert",
    "tenantry_write_update",
    "tenantry_write_delete",
];

/// The statements that make the policies of a table that has none of them yet.
///
/// One permissive policy per command, since permissive policies are joined by OR and a forgotten second one would open
/// the table; a restrictive floor under them, so that even such a one could not; and the writers' restriction.
pub fn policies(table: &impl TableName) -> Vec<String> {
    let tenant = TENANT_PREDICATE;
    let (write, write_check) = (WRITE_PREDICATE, WRITE_CHECK);
    let policy = |name: &str, rest: String| format!("create policy {name} on {table} {rest}");
    vec![
        policy("tenantry_select", format!("for select using ({tenant})")),
        policy("tenantry_insert", format!("for insert with check ({tenant})")),
        policy(
            "tenantry_update",
            format!("for update using ({tenant}) with check ({tenant})"),
        ),
        policy("tenantry_delete", format!("for delete using ({tenant})")),
        policy(
            "tenantry_floor",
            format!("as restrictive for all using ({tenant}) with check ({tenant})"),
        ),
        policy(
            "tenantry_write_insert",
            format!("as restrictive for insert with check ({write_check})"),
        ),
        policy(
            "tenantry_write_update",
            format!("as restrictive for update using ({write}) with check ({write_check})"),
        ),
        policy(
            "tenantry_write_delete",
            format!("as restrictive for delete using ({write})"),
        ),
    ]
}

/// The statements that put row security on a table without policies of ours: enabled, forced (the owner is bound as
/// well) and with its policies.
pub fn isolate_rows(table: &impl TableName) -> Vec<String> {
    let mut statements = vec![
        format!("alter table {table} enable row level security"),
        format!("alter table {table} force row level security"),
    ];
    statements.extend(policies(table));
    statements
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Qualified;

    #[test]
    fn every_policy_has_its_name_in_the_list() {
        let table = Qualified::new("app", "contact").unwrap();
        let made = policies(&table);
        assert_eq!(made.len(), POLICY_NAMES.len());
        for (statement, name) in made.iter().zip(POLICY_NAMES) {
            assert!(
                statement.starts_with(&format!("create policy {name} on \"app\".\"contact\" ")),
                "{statement}"
            );
        }
    }
}
