//! Sequences: one per table, shared by its tenants. That it leaves gaps between a tenant's numbers is a declared channel.

use super::{
    change::{Change, Outcome},
    quote::ident,
    snapshot::{Oid, Sequence, Snapshot},
};

/// The sequence behind an identity column.
pub(super) fn of_column(snapshot: &Snapshot, table: Oid, column: i16) -> Option<&Sequence> {
    snapshot.sequences.values().find(|sequence| {
        sequence
            .owner
            .as_ref()
            .is_some_and(|owner| owner.identity && owner.table == table && owner.column == column)
    })
}

/// In brackets after `as identity`; the name is part of it, so that it is the same everywhere.
pub(super) fn identity_options(sequence: &Sequence) -> String {
    format!(" (sequence name {} {})", ident(&sequence.name), options(sequence))
}

fn options(sequence: &Sequence) -> String {
    format!(
        "start with {} increment by {} minvalue {} maxvalue {} cache {}{}",
        sequence.start,
        sequence.increment,
        sequence.min,
        sequence.max,
        sequence.cache,
        if sequence.cycle { " cycle" } else { "" }
    )
}

fn is_identity(sequence: &Sequence) -> bool {
    sequence.owner.as_ref().is_some_and(|owner| owner.identity)
}

/// Sequences that defaults of new columns will name.
pub(super) fn made(change: &Change<'_>, out: &mut Outcome) {
    for sequence in new(change) {
        out.sql(format!(
            "create sequence {} as {} {}",
            ident(&sequence.name),
            sequence.ty,
            options(sequence)
        ));
    }
}

/// Ties new sequences to their columns, once those stand.
pub(super) fn owned(change: &Change<'_>, out: &mut Outcome) {
    for (oid, sequence) in &change.after.sequences {
        let before = change.before.sequences.get(oid);
        if is_identity(sequence) || before.is_some_and(|before| before.owner == sequence.owner) {
            continue;
        }
        let owner = sequence.owner.as_ref().and_then(|owner| {
            let table = change.table(owner.table)?;
            let column = table.column(owner.column)?;
            Some(format!("{}.{}", ident(&table.name), ident(&column.name)))
        });
        if let Some(owner) = owner.or_else(|| before.map(|_| "none".to_owned())) {
            out.sql(format!("alter sequence {} owned by {owner}", ident(&sequence.name)));
        }
    }
}

/// USAGE only: `last_value` would tell how many rows other tenants make, `setval` would collide with them.
pub(super) fn granted(change: &Change<'_>, out: &mut Outcome) {
    for (oid, sequence) in &change.after.sequences {
        if !change.before.sequences.contains_key(oid) {
            super::grant::usage_of_sequence(&sequence.name, out);
        }
    }
}

fn new<'a>(change: &'a Change<'_>) -> impl Iterator<Item = &'a Sequence> {
    change
        .after
        .sequences
        .iter()
        .filter(|(oid, sequence)| !change.before.sequences.contains_key(oid) && !is_identity(sequence))
        .map(|(_, sequence)| sequence)
}

pub(super) fn renamed(change: &Change<'_>, out: &mut Outcome) {
    for (oid, before) in &change.before.sequences {
        let after = change.after.sequences.get(oid);
        if let Some(after) = after.filter(|after| after.name != before.name) {
            out.sql(format!(
                "alter sequence {} rename to {}",
                ident(&before.name),
                ident(&after.name)
            ));
        }
    }
}

/// Sequences that stood alone; the others go with their columns.
pub(super) fn dropped(change: &Change<'_>, out: &mut Outcome) {
    for (oid, sequence) in &change.before.sequences {
        if !change.after.sequences.contains_key(oid) && sequence.owner.is_none() {
            out.sql(format!("drop sequence {}", ident(&sequence.name)));
        }
    }
}
