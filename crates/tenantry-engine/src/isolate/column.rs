//! Columns: made, renamed, retyped, dropped, and their defaults.

use super::{
    change::{Change, Outcome},
    quote::{ident, literal},
    sequence,
    snapshot::{Column, Oid, Table},
};

/// A column in `create table` and `add column`.
pub(super) fn definition(change: &Change<'_>, table: Oid, column: &Column) -> String {
    let mut text = format!("{} {}", ident(&column.name), column.ty);
    if let Some(collation) = &column.collation {
        text.push_str(&format!(" collate {collation}"));
    }
    if let Some(default) = &column.default {
        match column.generated.as_str() {
            "s" => text.push_str(&format!(" generated always as ({default}) stored")),
            "v" => text.push_str(&format!(" generated always as ({default}) virtual")),
            _ => text.push_str(&format!(" default {default}")),
        }
    }
    if let Some(identity) = identity(change, table, column) {
        text.push_str(&format!(" generated {identity}"));
    }
    if column.not_null {
        text.push_str(" not null");
    }
    text
}

fn identity(change: &Change<'_>, table: Oid, column: &Column) -> Option<String> {
    let kind = identity_kind(column)?;
    let options = sequence::of_column(change.after, table, column.num).map(sequence::identity_options);
    Some(format!("{kind} as identity{}", options.unwrap_or_default()))
}

fn identity_kind(column: &Column) -> Option<&'static str> {
    match column.identity.as_str() {
        "a" => Some("always"),
        "d" => Some("by default"),
        _ => None,
    }
}

/// Renames, which have statements of their own.
pub(super) fn renamed(change: &Change<'_>, out: &mut Outcome) {
    for (before, after) in kept_tables(change) {
        for old in &before.columns {
            let Some(new) = after.column(old.num).filter(|new| !new.inherited) else {
                continue;
            };
            if old.name != new.name {
                out.sql(format!(
                    "alter table {} rename column {} to {}",
                    ident(&after.name),
                    ident(&old.name),
                    ident(&new.name)
                ));
            }
        }
    }
}

/// All other changes of a table's columns, in one `alter table`, so that a table is rewritten once.
pub(super) fn altered(change: &Change<'_>, out: &mut Outcome) {
    for (oid, (before, after)) in change
        .before
        .tables
        .iter()
        .filter_map(|(oid, before)| change.table(*oid).map(|after| (*oid, (before, after))))
    {
        let mut actions = Vec::new();
        for new in &after.columns {
            match before.column(new.num) {
                None if new.inherited => {}
                None => actions.push(format!("add column {}", definition(change, oid, new))),
                Some(old) => actions.extend(alterations(change, oid, old, new)),
            }
        }
        let mut dropped: Vec<_> = before
            .columns
            .iter()
            .filter(|old| after.column(old.num).is_none() && !old.inherited)
            .collect();
        // A generated column goes before the one it is made from.
        dropped.sort_by_key(|old| old.generated.is_empty());
        actions.extend(
            dropped
                .into_iter()
                .map(|old| format!("drop column {}", ident(&old.name))),
        );
        emit(change, oid, after, actions, out);
        changed_comments(before, after, out);
    }
}

fn emit(change: &Change<'_>, oid: Oid, table: &Table, actions: Vec<String>, out: &mut Outcome) {
    if actions.is_empty() {
        return;
    }
    let text = format!("alter table {} {}", ident(&table.name), actions.join(", "));
    let mut related = Vec::new();
    for key in change.after.constraints.values().filter(|key| key.kind == 'f') {
        let touched = change.retyped(key.table, &key.columns) || change.retyped(key.target, &key.target_columns);
        if touched && (key.table == oid || key.target == oid) {
            related.extend([key.table, key.target]);
        }
    }
    // A type change makes the foreign keys of its column again and checks them as the owner.
    change.unforced(&related, out, |out| out.sql(text));
}

fn alterations(change: &Change<'_>, table: Oid, old: &Column, new: &Column) -> Vec<String> {
    if new.inherited && old.inherited && !follows_alone(change, table, new) {
        return Vec::new();
    }
    let mut actions = Vec::new();
    let column = format!("alter column {}", ident(&new.name));
    let retyped = old.ty != new.ty || old.collation != new.collation;
    let plain_default = |column: &Column| column.default.clone().filter(|_| column.generated.is_empty());
    let reset = old.default_oid != new.default_oid;
    let default_changed = reset && plain_default(old) != plain_default(new);
    if default_changed && (retyped || new.default.is_none()) && plain_default(old).is_some() {
        actions.push(format!("{column} drop default"));
    }
    if !old.generated.is_empty() && new.generated.is_empty() {
        actions.push(format!("{column} drop expression"));
    }
    if retyped {
        actions.push(retype(change, new));
    }
    if !old.identity.is_empty() && new.identity.is_empty() {
        actions.push(format!("{column} drop identity"));
    }
    if let Some(default) = plain_default(new).filter(|_| default_changed) {
        actions.push(format!("{column} set default {default}"));
    }
    if !old.generated.is_empty() && !new.generated.is_empty() && reset && old.default != new.default && !retyped {
        let expression = new.default.clone().unwrap_or_default();
        actions.push(format!("{column} set expression as ({expression})"));
    }
    match (old.not_null, new.not_null) {
        (false, true) => actions.push(format!("{column} set not null")),
        (true, false) => actions.push(format!("{column} drop not null")),
        _ => {}
    }
    if let Some(kind) = identity_kind(new).filter(|_| old.identity != new.identity) {
        if old.identity.is_empty() {
            let identity = identity(change, table, new).unwrap_or_default();
            actions.push(format!("{column} add generated {identity}"));
        } else {
            actions.push(format!("{column} set generated {kind}"));
        }
    }
    actions
}

/// Whether an inherited column changed while its parents' did not.
fn follows_alone(change: &Change<'_>, table: Oid, column: &Column) -> bool {
    let parents = change
        .table(table)
        .map(|table| table.parents.clone())
        .unwrap_or_default();
    let of = |snapshot: &super::snapshot::Snapshot, parent: &Oid| {
        let parent = snapshot.tables.get(parent)?;
        parent
            .columns
            .iter()
            .find(|candidate| candidate.name == column.name)
            .cloned()
    };
    parents
        .iter()
        .all(|parent| of(change.before, parent) == of(change.after, parent))
}

fn retype(change: &Change<'_>, column: &Column) -> String {
    let mut text = format!("alter column {} type {}", ident(&column.name), column.ty);
    if let Some(collation) = &column.collation {
        text.push_str(&format!(" collate {collation}"));
    }
    let using = change.statement.using.iter().find(|(name, _)| *name == column.name);
    if let Some((_, expression)) = using {
        text.push_str(&format!(" using {expression}"));
    }
    text
}

/// Comments on the columns of a new table.
pub(super) fn comments(table: &Table, out: &mut Outcome) {
    for column in &table.columns {
        if column.comment.is_some() {
            comment(table, column, out);
        }
    }
}

fn changed_comments(before: &Table, after: &Table, out: &mut Outcome) {
    for new in &after.columns {
        let old = before.column(new.num).and_then(|old| old.comment.clone());
        if old != new.comment {
            comment(after, new, out);
        }
    }
    if before.comment != after.comment {
        let text = after.comment.as_deref().map_or("null".to_owned(), literal);
        out.sql(format!("comment on table {} is {text}", ident(&after.name)));
    }
}

fn comment(table: &Table, column: &Column, out: &mut Outcome) {
    let text = column.comment.as_deref().map_or("null".to_owned(), literal);
    out.sql(format!(
        "comment on column {}.{} is {text}",
        ident(&table.name),
        ident(&column.name)
    ));
}

fn kept_tables<'a>(change: &'a Change<'_>) -> impl Iterator<Item = (&'a Table, &'a Table)> {
    change
        .before
        .tables
        .iter()
        .filter_map(|(oid, before)| Some((before, change.table(*oid)?)))
}
