//! One statement's effect on the twin, as the modules of the kinds read it.

use std::collections::BTreeSet;

use super::{
    derived::{Act, Grantee, Note},
    quote::ident,
    snapshot::{Constraint, Oid, Snapshot, Table},
};
use crate::migrate::Statement;

/// The twin before and after a statement.
pub(super) struct Change<'a> {
    pub(super) before: &'a Snapshot,
    pub(super) after: &'a Snapshot,
    pub(super) statement: &'a Statement,
    /// Tables with one content for all tenants.
    pub(super) reference: &'a BTreeSet<Oid>,
    /// Tables that stood before this version, so may hold rows.
    pub(super) old: &'a BTreeSet<Oid>,
    /// Names that the file lets through.
    pub(super) allowed: &'a [String],
}

/// What a change turns into.
#[derive(Default)]
pub(super) struct Outcome {
    pub(super) acts: Vec<(Act, Only)>,
    pub(super) notes: Vec<Note>,
    /// Reason and mend.
    pub(super) refusals: Vec<(String, String)>,
    /// Extensions that the isolated form needs, beyond those of the migration.
    pub(super) extensions: BTreeSet<String>,
    line: u32,
}

/// Where an act is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Only {
    /// In every placement.
    Always,
    /// Where tables may hold rows.
    Filled,
}

impl Outcome {
    pub(super) fn new(line: u32) -> Self {
        Self {
            line,
            ..Self::default()
        }
    }

    pub(super) fn sql(&mut self, text: impl Into<String>) {
        self.acts.push((Act::Sql(text.into()), Only::Always));
    }

    pub(super) fn concurrent(&mut self, index: &str, sql: String) {
        let index = index.to_owned();
        self.acts.push((Act::Concurrent { index, sql }, Only::Always));
    }

    pub(super) fn sql_if_filled(&mut self, text: impl Into<String>) {
        self.acts.push((Act::Sql(text.into()), Only::Filled));
    }

    pub(super) fn grant(&mut self, privileges: impl Into<String>, on: impl Into<String>, to: Grantee) {
        let (privileges, on) = (privileges.into(), on.into());
        self.acts.push((Act::Grant { privileges, on, to }, Only::Always));
    }

    pub(super) fn note(&mut self, object: &str, text: impl Into<String>) {
        self.notes.push(Note {
            line: self.line,
            object: object.to_owned(),
            text: text.into(),
        });
    }

    pub(super) fn refuse(&mut self, reason: impl Into<String>, mend: impl Into<String>) {
        self.refusals.push((reason.into(), mend.into()));
    }
}

impl Change<'_> {
    /// Whether the table holds tenants' rows.
    pub(super) fn isolated(&self, table: Oid) -> bool {
        !self.reference.contains(&table)
    }

    /// Whether the table may hold rows, so that adding something to it has to look at them.
    pub(super) fn may_hold_rows(&self, table: Oid) -> bool {
        self.old.contains(&table)
    }

    /// A table as it is after the statement.
    pub(super) fn table(&self, table: Oid) -> Option<&Table> {
        self.after.tables.get(&table)
    }

    /// Its name after the statement, quoted.
    pub(super) fn table_name(&self, table: Oid) -> String {
        self.table(table).map(|table| ident(&table.name)).unwrap_or_default()
    }

    /// Whether a table stood before and stands now.
    pub(super) fn kept(&self, table: Oid) -> bool {
        self.before.tables.contains_key(&table) && self.after.tables.contains_key(&table)
    }

    /// Whether the table is new.
    pub(super) fn made(&self, table: Oid) -> bool {
        !self.before.tables.contains_key(&table) && self.after.tables.contains_key(&table)
    }

    /// Constraints that went, and were not merely rebuilt by a type change.
    pub(super) fn dropped_constraints(&self) -> impl Iterator<Item = (Oid, &Constraint)> {
        self.before.constraints.iter().filter_map(|(oid, constraint)| {
            let gone = !self.after.constraints.contains_key(oid)
                && self.kept(constraint.table)
                && !constraint.inherited
                && !self.after.constraints.values().any(|new| self.rebuilt(constraint, new));
            gone.then_some((*oid, constraint))
        })
    }

    /// Constraints that are new, and not merely rebuilt by a type change.
    pub(super) fn made_constraints(&self) -> impl Iterator<Item = (Oid, &Constraint)> {
        self.after.constraints.iter().filter_map(|(oid, constraint)| {
            let new = !self.before.constraints.contains_key(oid)
                && !constraint.inherited
                && !self
                    .before
                    .constraints
                    .values()
                    .any(|old| self.rebuilt(old, constraint));
            new.then_some((*oid, constraint))
        })
    }

    /// A type change drops and makes again what stands on the column; the real table does the same by itself.
    fn rebuilt(&self, old: &Constraint, new: &Constraint) -> bool {
        old.name == new.name
            && old.table == new.table
            && old.kind == new.kind
            && (old.def == new.def || old.kind == 'c' && self.retyped(old.table, &old.columns))
    }

    /// Whether the statement changed the type of one of these columns.
    pub(super) fn retyped(&self, table: Oid, columns: &[i16]) -> bool {
        let (Some(before), Some(after)) = (self.before.tables.get(&table), self.after.tables.get(&table)) else {
            return false;
        };
        columns.iter().any(|num| {
            let ty = |table: &Table| table.column(*num).map(|column| column.ty.clone());
            ty(before) != ty(after)
        })
    }

    /// Runs something over tables whose rows the owner has to see: under forced row security it sees none, and a foreign key over
    /// orphans passes as valid.
    pub(super) fn unforced(&self, tables: &[Oid], out: &mut Outcome, act: impl FnOnce(&mut Outcome)) {
        let tables: BTreeSet<_> = tables
            .iter()
            .filter(|table| self.isolated(**table) && self.kept(**table))
            .map(|table| self.table_name(*table))
            .collect();
        let bracket = |out: &mut Outcome, force: &str| {
            for table in &tables {
                out.sql_if_filled(format!("alter table {table} {force} row level security"));
            }
        };
        bracket(out, "no force");
        act(out);
        bracket(out, "force");
    }
}
