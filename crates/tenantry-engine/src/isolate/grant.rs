//! Grants: what the application may do, and no more.

use super::{
    change::{Change, Outcome},
    derived::Grantee::{Application, Mover},
    quote::{ident, idents},
    snapshot::{Column, Oid, Table},
};

/// New tables, new columns, new views and sequences.
///
/// UPDATE is granted by column, so that `tenant_id` has none; TRUNCATE would ignore row security, REFERENCES would let a table of
/// the application's probe other tenants' keys.
pub(super) fn granted(change: &Change<'_>, out: &mut Outcome) {
    for (oid, table) in &change.after.tables {
        if matches!(table.kind, 'r' | 'p') {
            on_table(change, *oid, table, out);
        }
    }
    for (oid, view) in &change.after.views {
        if !change.before.views.contains_key(oid) {
            out.grant("select, insert, update, delete", ident(&view.name), Application);
            out.grant("select", ident(&view.name), Mover);
        }
    }
    super::sequence::granted(change, out);
}

fn on_table(change: &Change<'_>, oid: Oid, table: &Table, out: &mut Outcome) {
    let name = ident(&table.name);
    let Some(before) = change.before.tables.get(&oid) else {
        if change.isolated(oid) {
            out.grant(
                format!(
                    "select, insert, delete{}",
                    update(&table.columns.iter().collect::<Vec<_>>())
                ),
                &name,
                Application,
            );
        } else {
            out.grant("select", &name, Application);
        }
        out.grant("select, insert, update, delete", &name, Mover);
        return;
    };
    let new: Vec<_> = table
        .columns
        .iter()
        .filter(|column| before.column(column.num).is_none())
        .collect();
    if change.isolated(oid) && !new.is_empty() {
        let privileges = update(&new).trim_start_matches(", ").to_owned();
        out.grant(privileges, name, Application);
    }
}

fn update(columns: &[&Column]) -> String {
    if columns.is_empty() {
        return String::new();
    }
    let names = columns.iter().map(|column| column.name.as_str());
    format!(", update ({})", idents(names))
}

/// `nextval` and no look at what it would return.
pub(super) fn usage_of_sequence(name: &str, out: &mut Outcome) {
    out.grant("usage", format!("sequence {}", ident(name)), Application);
    out.grant("usage, select, update", format!("sequence {}", ident(name)), Mover);
}
