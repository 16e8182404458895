//! Indexes that belong to no constraint: unique ones and btrees are led by `tenant_id`, others are kept.

use super::{
    change::{Change, Outcome},
    quote::ident,
    snapshot::{Index, Oid},
};

pub(super) fn dropped(change: &Change<'_>, out: &mut Outcome) {
    for (oid, index) in &change.before.indexes {
        let gone = !change.after.indexes.contains_key(oid)
            && is_own(index)
            && change.kept(index.table)
            && !change.after.indexes.values().any(|new| rebuilt(index, new));
        if gone {
            out.sql(format!("drop index {}", ident(&index.name)));
        }
    }
}

pub(super) fn renamed(change: &Change<'_>, out: &mut Outcome) {
    for (oid, before) in &change.before.indexes {
        let Some(after) = change.after.indexes.get(oid) else {
            continue;
        };
        if before.name != after.name && is_own(before) && is_own(after) {
            out.sql(format!(
                "alter index {} rename to {}",
                ident(&before.name),
                ident(&after.name)
            ));
        }
    }
}

pub(super) fn made(change: &Change<'_>, out: &mut Outcome) {
    for (oid, index) in &change.after.indexes {
        if is_new(change, *oid, index) {
            make(change, index, out);
        }
    }
}

fn is_new(change: &Change<'_>, oid: Oid, index: &Index) -> bool {
    !change.before.indexes.contains_key(&oid)
        && is_own(index)
        && !change.before.indexes.values().any(|old| rebuilt(old, index))
}

fn make(change: &Change<'_>, index: &Index, out: &mut Outcome) {
    let Some(table) = change.table(index.table) else { return };
    let unique = if index.unique { "UNIQUE " } else { "" };
    let head = format!("CREATE {unique}INDEX {} ON ", index.quoted);
    let tail = format!("{} USING {} (", table.quoted, index.method);
    // `only` stands there for the index of a partitioned table made without its partitions.
    let parts = index.def.strip_prefix(&head).and_then(|rest| {
        let (only, rest) = match rest.strip_prefix("ONLY ") {
            Some(rest) => ("only ", rest),
            None => ("", rest),
        };
        Some((only, rest.strip_prefix(&tail)?))
    });
    let Some((only, rest)) = parts else {
        out.refuse(
            format!("the index `{}` reads `{}`, which is not known", index.name, index.def),
            "write it as `create index … on … (…)`",
        );
        return;
    };
    let led = change.isolated(index.table) && (index.unique || index.method == "btree");
    if led {
        out.note(&table.name, format!("index `{}` led by `tenant_id`", index.name));
    } else if change.isolated(index.table) {
        out.note(
            &table.name,
            format!(
                "index `{}` ({}) kept: it spans all tenants of shared tables",
                index.name, index.method
            ),
        );
    }
    let lead = if led { "tenant_id, " } else { "" };
    let sql = format!(
        "create {}index {} on {only}{} using {} ({lead}{rest}",
        unique.to_lowercase(),
        ident(&index.name),
        ident(&table.name),
        index.method
    );
    if change.statement.concurrently {
        out.concurrent(&index.name, sql);
    } else {
        out.sql(sql);
    }
}

/// Whether an index is neither a constraint's nor a parent's.
fn is_own(index: &Index) -> bool {
    !index.constraint && !index.inherited
}

/// A type change makes the indexes of its column again; the real table does the same by itself.
fn rebuilt(old: &Index, new: &Index) -> bool {
    old.name == new.name && old.table == new.table && old.def == new.def
}
