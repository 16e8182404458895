//! Tables: made with `tenant_id` last and sealed at once, renamed, dropped.
//!
//! Last, not first: an insert that names no columns keeps its meaning as long as it fills all of them.

use super::{
    change::{Change, Outcome},
    column, constraint, foreign_key, partition, policy,
    quote::{ident, literal},
    snapshot::{Oid, Table},
};

/// The column that every isolated table has.
pub(super) const TENANT_COLUMN: &str = "tenant_id uuid not null default tenantry.tenant_id()";

pub(super) fn made(change: &Change<'_>, out: &mut Outcome) {
    let new = change.after.tables.iter().filter(|(oid, _)| change.made(**oid));
    for (oid, table) in new {
        if refused(change, table, out) {
            continue;
        }
        let inline = inline_constraints(change, *oid, out);
        out.sql(create(change, *oid, table, inline));
        if change.isolated(*oid) {
            policy::seal(&table.name, out);
            out.note(
                &table.name,
                "rows belong to tenants: `tenant_id` added, row security enabled and forced",
            );
        } else {
            out.note(
                &table.name,
                "reference table: the same for all tenants, readable, not writable",
            );
        }
        if let Some(comment) = &table.comment {
            out.sql(format!(
                "comment on table {} is {}",
                ident(&table.name),
                literal(comment)
            ));
        }
        column::comments(table, out);
    }
}

/// Constraints that `create table` makes at once; the others follow when what they point to stands.
fn inline_constraints(change: &Change<'_>, table: Oid, out: &mut Outcome) -> Vec<String> {
    let mut inline = Vec::new();
    for (oid, constraint) in change.made_constraints().filter(|(_, made)| made.table == table) {
        let text = match constraint.kind {
            'f' if foreign_key::can_stand_inline(change, constraint) => {
                foreign_key::definition(change, constraint, out)
            }
            'f' => None,
            _ => constraint::definition(change, oid, constraint, out),
        };
        if let Some(text) = text {
            inline.push(format!("constraint {} {text}", ident(&constraint.name)));
        }
    }
    inline
}

/// Reached by what no statement of its own made; `migrate::refuse` tells the rest by their text.
fn refused(change: &Change<'_>, table: &Table, out: &mut Outcome) -> bool {
    let (what, mend) = match table.kind {
        'f' => (
            "a foreign table",
            "copy the data into a table, or read it from the application",
        ),
        'm' => (
            "a materialized view",
            "write a view, or a table that a job of each tenant fills",
        ),
        _ if table.typed => ("a table of a type", "name its columns"),
        _ => return false,
    };
    if !change.allowed.contains(&table.name) {
        out.refuse(
            format!(
                "`{}` is {what}, which row security can't protect with a column of its own",
                table.name
            ),
            mend,
        );
    }
    true
}

fn create(change: &Change<'_>, oid: Oid, table: &Table, constraints: Vec<String>) -> String {
    let mut parts: Vec<String> = table
        .columns
        .iter()
        .filter(|column| column.local && !table.is_partition)
        .map(|column| column::definition(change, oid, column))
        .collect();
    parts.extend(partition::own_columns(change, table));
    if change.isolated(oid) && table.parents.is_empty() {
        parts.push(TENANT_COLUMN.to_owned());
    }
    parts.extend(constraints);
    let unlogged = if table.unlogged { "unlogged " } else { "" };
    let name = ident(&table.name);
    let body = parts.join(",\n  ");
    let mut text = if table.is_partition {
        partition::create(change, unlogged, &name, table, &body)
    } else {
        let inherits = partition::inherits(change, table);
        format!("create {unlogged}table {name} (\n  {body}\n){inherits}")
    };
    if let Some(key) = &table.partition_key {
        text.push_str(&format!(" partition by {key}"));
    }
    if !table.options.is_empty() {
        text.push_str(&format!(" with ({})", table.options.join(", ")));
    }
    text
}

pub(super) fn renamed(change: &Change<'_>, out: &mut Outcome) {
    for (oid, before) in &change.before.tables {
        let Some(after) = change.table(*oid) else { continue };
        if before.name != after.name {
            out.sql(format!(
                "alter table {} rename to {}",
                ident(&before.name),
                ident(&after.name)
            ));
        }
    }
}

pub(super) fn dropped(change: &Change<'_>, out: &mut Outcome) {
    // A partition goes with its parent, and children are made after parents: the last made goes first.
    for (oid, table) in change.before.tables.iter().rev() {
        if !change.after.tables.contains_key(oid) && matches!(table.kind, 'r' | 'p') {
            out.sql(format!("drop table {}", ident(&table.name)));
        }
    }
}
