//! A migration from one plain structure to another: what can be done is written, what would lose rows or may not fit them is
//! left to people, with the statement and the reason.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    difference::Remedy,
    fact::{Class, Fact, Key, Structure},
    in_use,
    order::Order,
    statement::{self, Names, def, describe, is, text},
};
use crate::{isolate::ident, migrate::Target};

/// A statement of the migration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// `column phone of table contacts`.
    pub object: String,
    /// What makes it so.
    pub sql: Vec<String>,
    /// Why it stands there as a comment only.
    pub refused: Option<String>,
    /// What is to be known before it runs.
    pub note: Option<String>,
    /// In which file it stands.
    pub stage: Stage,
}

/// The files of such a migration, in the order in which they run: each is a transaction, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Labels of enums, which can't be used in the transaction that adds them.
    Labels,
    /// What takes no longer than its locks.
    Definitions,
    /// Indexes of tables that are in use, and what stands on them; in no transaction.
    Concurrently,
    /// Checks that are validated while their tables are read and written.
    Checks,
    /// A foreign key that is validated, each by itself.
    Keys,
}

/// When a statement runs, so that each finds what it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    Label,
    DropView,
    DropTrigger,
    DropKey,
    Drop,
    /// Types, sequences, functions, tables with their columns and keys, views: so that each comes after what it needs.
    Object,
    Owned,
    Index,
    ForeignKey,
    Trigger,
    Comment,
    DropSequence,
    DropFunction,
    DropType,
    /// By people: last, so that what is written above can be read at once.
    Refused,
    /// An index that is built while its table is written.
    Built,
    /// What takes such an index over.
    Bound,
    /// A foreign key that does not look at the rows that are there.
    Unchecked,
    /// Comments on these.
    Told,
    Check,
    Key,
}

impl Phase {
    fn stage(self) -> Stage {
        match self {
            Self::Label => Stage::Labels,
            Self::Built | Self::Bound | Self::Unchecked | Self::Told => Stage::Concurrently,
            Self::Check => Stage::Checks,
            Self::Key => Stage::Keys,
            _ => Stage::Definitions,
        }
    }
}

/// What has to be done to the first to make it the second; both are plain, as one customer's schema is. `order` is that of the second.
#[must_use]
pub fn write(current: &Structure, wanted: &Structure, order: &Order, target: &Target) -> Vec<Written> {
    let writer = Writer {
        current,
        wanted,
        order,
        names: Names { target, tenant: None },
    };
    let mut steps = Vec::new();
    // What is made after the other definitions, so that nothing may be said of it before.
    let mut later = BTreeSet::new();
    for (key, value) in wanted.facts.iter().filter(|(key, _)| is_written(key.fact)) {
        let made = match current.facts.get(key) {
            Some(found) if found == value => continue,
            Some(found) => writer.changed(key, found, value),
            None => writer.made(key, value, &later),
        };
        if made.iter().any(|(phase, _)| phase.stage() == Stage::Concurrently) {
            later.insert(key);
        }
        steps.extend(made.into_iter().map(|(phase, written)| {
            let place = match phase {
                Phase::Object => order.place(key.class, &key.object),
                _ => 0,
            };
            (phase, place, written)
        }));
    }
    for (key, value) in current.facts.iter().filter(|(key, _)| is_written(key.fact)) {
        let goes_along = key.fact != Fact::Itself && !wanted.has(&key.of_object());
        if !wanted.has(key) && !goes_along && !key.goes_with_its_owner(current, wanted) {
            steps.extend(dropped(key, value).map(|(phase, written)| (phase, 0, written)));
        }
    }
    steps.sort_by_key(|(phase, place, _)| (*phase, *place));
    steps.into_iter().map(|(_, _, written)| written).collect()
}

/// Rights, owners and row security are Tenantry's.
fn is_written(fact: Fact) -> bool {
    !matches!(fact, Fact::Owner | Fact::Grant | Fact::ColumnGrant | Fact::RowSecurity)
}

pub(super) type Step = (Phase, Written);

pub(super) fn step(phase: Phase, key: &Key, sql: impl IntoIterator<Item = String>) -> Step {
    let written = Written {
        object: describe(key),
        sql: sql.into_iter().collect(),
        refused: None,
        note: None,
        stage: phase.stage(),
    };
    (phase, written)
}

pub(super) fn refused(key: &Key, sql: Vec<String>, sentence: impl Into<String>) -> Step {
    let (phase, written) = step(Phase::Refused, key, sql);
    let refused = Some(sentence.into());
    (phase, Written { refused, ..written })
}

/// With what is to be known before it runs.
pub(super) fn noted((phase, written): Step, note: &str) -> Step {
    let note = Some(note.to_owned());
    (phase, Written { note, ..written })
}

struct Writer<'a> {
    current: &'a Structure,
    wanted: &'a Structure,
    order: &'a Order,
    names: Names<'a>,
}

impl Writer<'_> {
    fn made(&self, key: &Key, value: &Value, later: &BTreeSet<&Key>) -> Vec<Step> {
        let (sql, remedy) = statement::make(key, value, self.wanted, &self.names);
        let new_table = !self.current.has(&key.of_object());
        let phase = match (key.class, key.fact) {
            (Class::Type | Class::Function, Fact::Itself) if remedy == Remedy::Safe => Phase::Object,
            (Class::Sequence, Fact::Itself) => return sequence(key, value),
            (Class::Table, Fact::Itself) => Phase::Object,
            (Class::View, Fact::Itself) => return vec![step(Phase::Object, key, [view(key, value)])],
            // `create table` made it.
            (_, Fact::Column) if new_table => return Vec::new(),
            (_, Fact::Column) if can_be_added(value) => return vec![added(key, value, sql)],
            (_, Fact::Column) => {
                return vec![refused(
                    key,
                    sql,
                    "rows that are there have no value for it: add it without `not null`, fill it, and set it in a later migration",
                )];
            }
            (_, Fact::Constraint) if new_table && self.points_to_what_comes(key, value) => {
                return in_use::constraint(key, value, self.current, self.wanted);
            }
            (_, Fact::Constraint) if new_table && def(value).starts_with("FOREIGN KEY") => Phase::ForeignKey,
            (_, Fact::Constraint) if new_table => Phase::Object,
            (_, Fact::Constraint) => return in_use::constraint(key, value, self.current, self.wanted),
            (_, Fact::Index) if new_table => return vec![step(Phase::Index, key, [plain_index(value)])],
            (_, Fact::Index) => return in_use::index(key, None, value),
            (_, Fact::Trigger | Fact::Policy | Fact::Statistics | Fact::Default) => Phase::Trigger,
            (_, Fact::Comment) if key.commented().is_some_and(|owner| later.contains(&owner)) => Phase::Told,
            (_, Fact::Comment | Fact::Options) => Phase::Comment,
            _ => return vec![refused(key, sql, "write the statement that makes it by hand")],
        };
        let sql = match key.fact {
            // That it fires goes without saying.
            Fact::Trigger => vec![def(value).to_owned()],
            _ => sql,
        };
        vec![step(phase, key, sql)]
    }

    /// Whether a foreign key points to a table that stands already and whose key is made after the other definitions.
    fn points_to_what_comes(&self, key: &Key, value: &Value) -> bool {
        let target = def(value)
            .starts_with("FOREIGN KEY")
            .then(|| self.order.target(&key.object, &key.name))
            .flatten();
        let Some(target) = target else { return false };
        let target = Key {
            class: Class::Table,
            object: target.to_owned(),
            fact: Fact::Itself,
            name: String::new(),
        };
        let is_key = |key: &Key, value: &Value| match key.fact {
            Fact::Constraint => ["PRIMARY KEY", "UNIQUE"]
                .iter()
                .any(|word| def(value).starts_with(word)),
            Fact::Index => is(value, "unique"),
            _ => false,
        };
        self.current.has(&target)
            && self
                .wanted
                .details(&target)
                .any(|(key, value)| is_key(key, value) && !self.current.has(key))
    }

    fn changed(&self, key: &Key, found: &Value, wanted: &Value) -> Vec<Step> {
        let (sql, remedy) = statement::alter(key, found, wanted, &self.names);
        let changed = match (key.class, key.fact, remedy) {
            (Class::Sequence, Fact::Itself, _) => {
                let sql = statement::sequence("alter", key, wanted, !is(wanted, "identity"));
                step(Phase::Owned, key, [sql])
            }
            (Class::View, Fact::Itself, Remedy::Safe) => step(Phase::Object, key, [view(key, wanted)]),
            (_, Fact::Index, _) => return in_use::index(key, Some(found), wanted),
            (Class::Type, Fact::Itself, Remedy::Safe) => step(Phase::Label, key, sql),
            (Class::Function, Fact::Itself, Remedy::Safe) | (_, Fact::Column, Remedy::Safe) => {
                step(Phase::Object, key, sql)
            }
            (_, Fact::Comment | Fact::Options, _) => step(Phase::Comment, key, sql),
            (_, _, Remedy::Safe | Remedy::SafeAlone) => step(Phase::Trigger, key, sql),
            (_, _, Remedy::Refused(sentence)) => refused(key, sql, sentence),
        };
        vec![changed]
    }
}

/// A column that rows get; some of them are written anew with it.
fn added(key: &Key, value: &Value, sql: Vec<String>) -> Step {
    let added = step(Phase::Object, key, sql);
    let is_computed = text(value, "generated") == Some("s") || !matches!(text(value, "identity"), None | Some(""));
    match is_computed {
        true => noted(
            added,
            "writes the table anew, and everybody waits: on a large table add a plain column and fill it instead",
        ),
        false => added,
    }
}

/// Where nobody writes its table yet.
pub(super) fn plain_index(value: &Value) -> String {
    def(value).replacen(" ON ONLY ", " ON ", 1)
}

/// Columns that rows can get: those with a value for each, or with none.
fn can_be_added(column: &Value) -> bool {
    !is(column, "not_null") || text(column, "default").is_some() || text(column, "identity") != Some("")
}

/// Made first, since defaults name it; tied to its column when that is there. Those of identity columns come with them.
fn sequence(key: &Key, value: &Value) -> Vec<Step> {
    if is(value, "identity") {
        return Vec::new();
    }
    let name = ident(&key.object);
    let mut steps = vec![step(
        Phase::Object,
        key,
        [statement::sequence("create", key, value, false)],
    )];
    if let Some(column) = text(value, "owned_by") {
        let sql = format!("alter sequence {name} owned by {column}");
        steps.push(step(Phase::Owned, key, [sql]));
    }
    steps
}

fn view(key: &Key, value: &Value) -> String {
    statement::view(key, value).replacen(" with (security_invoker=true)", "", 1)
}

fn dropped(key: &Key, value: &Value) -> Option<Step> {
    let (table, name) = (ident(&key.object), || ident(&key.name));
    let drop = |phase, sql: String| Some(step(phase, key, [sql]));
    match (key.class, key.fact) {
        (Class::Table, Fact::Itself) => Some(refused(
            key,
            vec![format!("drop table {table}")],
            "its rows go with it; was it renamed?",
        )),
        (Class::Sequence, Fact::Itself) if is(value, "identity") || text(value, "owned_by").is_some() => None,
        (Class::Sequence, Fact::Itself) => drop(Phase::DropSequence, format!("drop sequence {table}")),
        (Class::View, Fact::Itself) => drop(Phase::DropView, format!("drop view {table}")),
        (Class::Type, Fact::Itself) if text(value, "kind") == Some("d") => {
            drop(Phase::DropType, format!("drop domain {table}"))
        }
        (Class::Type, Fact::Itself) => drop(Phase::DropType, format!("drop type {table}")),
        (Class::Function, Fact::Itself) => drop(Phase::DropFunction, format!("drop routine {}", key.object)),
        (_, Fact::Column) => Some(refused(
            key,
            vec![format!("alter table {table} drop column {}", name())],
            "its values go with it; was it renamed?",
        )),
        (_, Fact::Constraint) => drop(
            Phase::DropKey,
            format!("alter table {table} drop constraint {}", name()),
        ),
        (_, Fact::Index) => drop(Phase::Drop, format!("drop index {}", name())),
        (_, Fact::Statistics) => drop(Phase::Drop, format!("drop statistics {}", name())),
        (_, Fact::Trigger) => drop(Phase::DropTrigger, format!("drop trigger {} on {table}", name())),
        (_, Fact::Policy) => drop(Phase::DropTrigger, format!("drop policy {} on {table}", name())),
        (_, Fact::Comment) => Some(step(Phase::Comment, key, statement::comment(key, None).0)),
        (_, Fact::Options) => Some(step(
            Phase::Comment,
            key,
            [statement::options(key, value, &Value::Null)],
        )),
        _ => Some(refused(key, Vec::new(), "write the statement that undoes it by hand")),
    }
}
