//! Names that are ours, whichever statement or block uses them.

use super::change::{Change, Outcome};

const OURS: &str = "tenantry_";

/// Refuses columns called `tenant_id` and objects whose names begin like those that isolation makes.
pub(super) fn examined(change: &Change<'_>, out: &mut Outcome) {
    for (oid, table) in &change.after.tables {
        let before = change.before.tables.get(oid);
        for column in table
            .columns
            .iter()
            .filter(|column| column.name == tenantry_sql::TENANT_COLUMN)
        {
            if before.is_none_or(|before| before.column(column.num) != Some(column)) {
                out.refuse(
                    format!(
                        "`{}` has a column `tenant_id`, which is the one that Tenantry adds",
                        table.name
                    ),
                    "leave it out where it means the customer; give it another name where it means something else",
                );
            }
        }
    }
    for name in new_names(change).filter(|name| name.starts_with(OURS)) {
        out.refuse(
            format!("the name `{name}` begins with `{OURS}`, as the names do that isolation makes"),
            "choose another name",
        );
    }
}

fn new_names<'a>(change: &'a Change<'_>) -> impl Iterator<Item = &'a str> {
    let (before, after) = (change.before, change.after);
    let tables = after
        .tables
        .iter()
        .filter(|(oid, _)| !before.tables.contains_key(oid))
        .map(|(_, new)| &new.name);
    let views = after
        .views
        .iter()
        .filter(|(oid, _)| !before.views.contains_key(oid))
        .map(|(_, new)| &new.name);
    let indexes = after
        .indexes
        .iter()
        .filter(|(oid, _)| !before.indexes.contains_key(oid))
        .map(|(_, new)| &new.name);
    let constraints = after
        .constraints
        .iter()
        .filter(|(oid, _)| !before.constraints.contains_key(oid))
        .map(|(_, new)| &new.name);
    let policies = after
        .policies
        .iter()
        .filter(|(oid, _)| !before.policies.contains_key(oid))
        .map(|(_, new)| &new.name);
    tables
        .chain(views)
        .chain(indexes)
        .chain(constraints)
        .chain(policies)
        .map(String::as_str)
}
