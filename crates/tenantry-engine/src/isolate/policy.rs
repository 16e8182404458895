//! Row security of an isolated table.

use super::{change::Outcome, quote::ident};

/// Enables and forces row security and makes the policies.
pub(super) fn seal(table: &str, out: &mut Outcome) {
    let table = ident(table);
    out.sql(format!(
        "alter table {table} enable row level security, force row level security"
    ));
    for statement in statements(&table) {
        out.sql(statement);
    }
}

fn statements(table: &str) -> Vec<String> {
    const OWN: &str = "tenant_id = (select tenantry.tenant_id())";
    vec![
        format!("create policy tenantry_select on {table} for select using ({OWN})"),
        format!("create policy tenantry_insert on {table} for insert with check ({OWN})"),
        format!("create policy tenantry_update on {table} for update using ({OWN}) with check ({OWN})"),
        format!("create policy tenantry_delete on {table} for delete using ({OWN})"),
        format!("create policy tenantry_floor on {table} as restrictive using ({OWN}) with check ({OWN})"),
    ]
}
