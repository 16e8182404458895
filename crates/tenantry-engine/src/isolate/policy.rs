//! Row security of an isolated table.

use tenantry_sql::policies;

use super::{change::Outcome, quote};

/// Enables and forces row security and makes the policies.
pub(super) fn seal(table: &str, out: &mut Outcome) {
    let table = quote::name(table);
    // One `alter table`, not two: provisioning an own schema is counted in statements.
    out.sql(format!(
        "alter table {table} enable row level security, force row level security"
    ));
    for statement in policies(&table) {
        out.sql(statement);
    }
}
