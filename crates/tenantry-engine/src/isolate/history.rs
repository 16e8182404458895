//! Tables that ask for a history of their rows: a trigger, made in the twin like any other.

use std::collections::BTreeSet;

use squawk_syntax::SyntaxKind;

use super::{
    quote::ident,
    snapshot::{Oid, Snapshot},
};
use crate::migrate::{HistoryOf, Statement};

/// Its name on each table.
const TRIGGER: &str = "tenantry_history";

/// The statement that the declaration stands for.
///
/// # Errors
///
/// Why it can't be, and the mend.
pub(super) fn trigger(
    wish: &HistoryOf,
    now: &Snapshot,
    reference: &BTreeSet<Oid>,
) -> Result<Statement, (String, String)> {
    let name = &wish.table;
    let found = now
        .tables
        .iter()
        .find(|(_, table)| table.name == *name && matches!(table.kind, 'r' | 'p'));
    let Some((oid, table)) = found else {
        return Err((
            format!("there is no table `{name}` at the end of this file"),
            "name a table that this file or an earlier one makes".into(),
        ));
    };
    if reference.contains(oid) {
        return Err((
            format!("`{name}` is a reference table: its rows belong to no tenant, and only migrations change them"),
            "ask for the history of tables that hold tenants' rows".into(),
        ));
    }
    if table.is_partition {
        return Err((
            format!("`{name}` is a partition"),
            "ask for the history of the partitioned table".into(),
        ));
    }
    let has_key = now.constraints.values().any(|key| key.table == *oid && key.kind == 'p');
    if wish.kept && !has_key {
        return Err((
            format!("`{name}` has no primary key, so an entry could not say which row it is about"),
            "give it one".into(),
        ));
    }
    let table = ident(name);
    let text = match wish.kept {
        true => format!(
            "create trigger {TRIGGER} after insert or update or delete on {table} for each row execute function tenantry.note_history()"
        ),
        false => format!("drop trigger {TRIGGER} on {table}"),
    };
    Ok(Statement {
        kind: match wish.kept {
            true => SyntaxKind::CREATE_TRIGGER,
            false => SyntaxKind::DROP_TRIGGER,
        },
        line: wish.line,
        text,
        using: Vec::new(),
        untraced: Vec::new(),
        altered: None,
        concurrently: false,
        extension: None,
        written: Vec::new(),
        inserts_without_tenant: Vec::new(),
    })
}
