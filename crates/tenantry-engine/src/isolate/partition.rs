//! Partitioned tables and inheritance. Each partition is a table with policies of its own.

use super::{
    change::{Change, Outcome},
    quote::{ident, idents},
    snapshot::Table,
};

/// `create table … partition of …`.
pub(super) fn create(change: &Change<'_>, unlogged: &str, name: &str, table: &Table, body: &str) -> String {
    let parent = parents(change, table);
    let body = if body.is_empty() {
        String::new()
    } else {
        format!(" (\n  {body}\n)")
    };
    let bound = table.bound.as_deref().unwrap_or("default").to_owned();
    format!("create {unlogged}table {name} partition of {parent}{body} {bound}")
}

/// Columns of a partition that differ from its parent's: they say so themselves.
pub(super) fn own_columns(change: &Change<'_>, table: &Table) -> Vec<String> {
    let parent = table.parents.first().and_then(|parent| change.table(*parent));
    let Some(parent) = parent.filter(|_| table.is_partition) else {
        return Vec::new();
    };
    let of_parent = |name: &str| parent.columns.iter().find(|column| column.name == name);
    table
        .columns
        .iter()
        .filter_map(|column| {
            let above = of_parent(&column.name)?;
            let mut text = String::new();
            if column.generated.is_empty() && column.default != above.default {
                let default = column.default.as_deref().unwrap_or("null");
                text.push_str(&format!(" default {default}"));
            }
            if column.not_null && !above.not_null {
                text.push_str(" not null");
            }
            (!text.is_empty()).then(|| format!("{}{text}", ident(&column.name)))
        })
        .collect()
}

/// ` inherits (…)`, where the table does.
pub(super) fn inherits(change: &Change<'_>, table: &Table) -> String {
    if table.parents.is_empty() {
        String::new()
    } else {
        format!(" inherits ({})", parents(change, table))
    }
}

fn parents(change: &Change<'_>, table: &Table) -> String {
    idents(
        table
            .parents
            .iter()
            .filter_map(|parent| change.table(*parent).or_else(|| change.before.tables.get(parent)))
            .map(|parent| parent.name.as_str()),
    )
}

/// Tables that joined or left a parent.
pub(super) fn moved(change: &Change<'_>, out: &mut Outcome) {
    for (oid, before) in &change.before.tables {
        let Some(after) = change.table(*oid) else { continue };
        for parent in before.parents.iter().filter(|parent| !after.parents.contains(parent)) {
            if !change.after.tables.contains_key(parent) {
                continue;
            }
            let (child, parent) = (ident(&after.name), change.table_name(*parent));
            let concurrently = if change.statement.concurrently {
                " concurrently"
            } else {
                ""
            };
            out.sql(if before.is_partition {
                format!("alter table {parent} detach partition {child}{concurrently}")
            } else {
                format!("alter table {child} no inherit {parent}")
            });
        }
        for parent in after.parents.iter().filter(|parent| !before.parents.contains(parent)) {
            let (child, name) = (ident(&after.name), change.table_name(*parent));
            let text = if after.is_partition {
                let bound = after.bound.as_deref().unwrap_or("default");
                format!("alter table {name} attach partition {child} {bound}")
            } else {
                format!("alter table {child} inherit {name}")
            };
            let mut related = vec![*oid, *parent];
            related.extend(
                change
                    .after
                    .constraints
                    .values()
                    .filter(|key| key.kind == 'f' && key.table == *parent)
                    .map(|key| key.target),
            );
            change.unforced(&related, out, |out| out.sql(text));
        }
    }
}
