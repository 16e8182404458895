//! A migration from one plain structure to another: what can be done is written, what would lose rows or may not fit them is
//! left to people, with the statement and the reason.

use serde_json::Value;

use super::{
    difference::Remedy,
    fact::{Class, Fact, Key, Structure},
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
}

/// When a statement runs, so that each finds what it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    DropView,
    DropTrigger,
    DropKey,
    Drop,
    Type,
    Sequence,
    Function,
    Table,
    Column,
    Owned,
    Key,
    Index,
    ForeignKey,
    View,
    Trigger,
    Comment,
    DropSequence,
    DropFunction,
    DropType,
    /// By people: last, so that what is written above can be read at once.
    Refused,
}

/// What has to be done to the first to make it the second; both are plain, as one customer's schema is.
#[must_use]
pub fn write(current: &Structure, wanted: &Structure, target: &Target) -> Vec<Written> {
    let names = &Names { target, tenant: None };
    let mut steps = Vec::new();
    for (key, value) in wanted.facts.iter().filter(|(key, _)| is_written(key.fact)) {
        match current.facts.get(key) {
            Some(found) if found == value => {}
            Some(found) => steps.push(changed(key, found, value, names)),
            None => steps.extend(made(key, value, current, wanted, names)),
        }
    }
    for (key, value) in current.facts.iter().filter(|(key, _)| is_written(key.fact)) {
        let goes_along = key.fact != Fact::Itself && !wanted.has(&key.of_object());
        if !wanted.has(key) && !goes_along && !key.goes_with_its_owner(current, wanted) {
            steps.extend(dropped(key, value));
        }
    }
    steps.sort_by_key(|(phase, _)| *phase);
    steps.into_iter().map(|(_, written)| written).collect()
}

/// Rights, owners and row security are Tenantry's.
fn is_written(fact: Fact) -> bool {
    !matches!(fact, Fact::Owner | Fact::Grant | Fact::ColumnGrant | Fact::RowSecurity)
}

type Step = (Phase, Written);

fn step(phase: Phase, key: &Key, sql: Vec<String>) -> Step {
    let written = Written {
        object: describe(key),
        sql,
        refused: None,
    };
    (phase, written)
}

fn refused(key: &Key, sql: Vec<String>, sentence: impl Into<String>) -> Step {
    let written = Written {
        object: describe(key),
        sql,
        refused: Some(sentence.into()),
    };
    (Phase::Refused, written)
}

fn made(key: &Key, value: &Value, current: &Structure, wanted: &Structure, names: &Names<'_>) -> Vec<Step> {
    let (sql, remedy) = statement::make(key, value, wanted, names);
    let new_table = !current.has(&key.of_object());
    let phase = match (key.class, key.fact) {
        (Class::Type, Fact::Itself) if remedy == Remedy::Safe => Phase::Type,
        (Class::Function, Fact::Itself) if remedy == Remedy::Safe => Phase::Function,
        (Class::Sequence, Fact::Itself) => return sequence(key, value),
        (Class::Table, Fact::Itself) => Phase::Table,
        (Class::View, Fact::Itself) => return vec![step(Phase::View, key, vec![view(key, value)])],
        // `create table` made it.
        (_, Fact::Column) if new_table => return Vec::new(),
        (_, Fact::Column) if can_be_added(value) => Phase::Column,
        (_, Fact::Column) => {
            return vec![refused(
                key,
                sql,
                "rows that are there have no value for it: add it without `not null`, fill it, and set it in a later migration",
            )];
        }
        (_, Fact::Constraint) if def(value).starts_with("FOREIGN KEY") => Phase::ForeignKey,
        (_, Fact::Constraint) => Phase::Key,
        (_, Fact::Index) => {
            return vec![step(
                Phase::Index,
                key,
                vec![def(value).replacen(" ON ONLY ", " ON ", 1)],
            )];
        }
        (_, Fact::Trigger | Fact::Policy | Fact::Statistics | Fact::Default) => Phase::Trigger,
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
        Phase::Sequence,
        key,
        vec![statement::sequence("create", key, value, false)],
    )];
    if let Some(column) = text(value, "owned_by") {
        let sql = format!("alter sequence {name} owned by {column}");
        steps.push(step(Phase::Owned, key, vec![sql]));
    }
    steps
}

fn view(key: &Key, value: &Value) -> String {
    statement::view(key, value).replacen(" with (security_invoker=true)", "", 1)
}

fn changed(key: &Key, found: &Value, wanted: &Value, names: &Names<'_>) -> Step {
    let (sql, remedy) = statement::alter(key, found, wanted, names);
    match (key.class, key.fact, remedy) {
        (Class::Sequence, Fact::Itself, _) => step(
            Phase::Owned,
            key,
            vec![statement::sequence("alter", key, wanted, !is(wanted, "identity"))],
        ),
        (Class::View, Fact::Itself, Remedy::Safe) => step(Phase::View, key, vec![view(key, wanted)]),
        (_, Fact::Index, _) => step(
            Phase::Index,
            key,
            vec![
                format!("drop index {}", ident(&key.name)),
                def(wanted).replacen(" ON ONLY ", " ON ", 1),
            ],
        ),
        (Class::Type, _, Remedy::Safe) => step(Phase::Type, key, sql),
        (Class::Function, _, Remedy::Safe) => step(Phase::Function, key, sql),
        (_, Fact::Column, Remedy::Safe) => step(Phase::Column, key, sql),
        (_, Fact::Comment | Fact::Options, _) => step(Phase::Comment, key, sql),
        (_, _, Remedy::Safe | Remedy::SafeAlone) => step(Phase::Trigger, key, sql),
        (_, _, Remedy::Refused(sentence)) => refused(key, sql, sentence),
    }
}

fn dropped(key: &Key, value: &Value) -> Option<Step> {
    let (table, name) = (ident(&key.object), || ident(&key.name));
    let drop = |phase, sql: String| Some(step(phase, key, vec![sql]));
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
            vec![statement::options(key, value, &Value::Null)],
        )),
        _ => Some(refused(key, Vec::new(), "write the statement that undoes it by hand")),
    }
}
