//! Whole objects: tables, views, types, sequences, functions.

use serde_json::Value;

use super::{Names, Way, column, def, is, object, refused, safe, text, texts};
use crate::{
    isolate::{ident, literal},
    structure::{
        difference::Remedy,
        fact::{Class, Fact, Key, Structure},
    },
};

pub(super) fn make(key: &Key, wanted: &Value, expected: &Structure, names: &Names<'_>) -> Way {
    match key.class {
        Class::Schema => (Vec::new(), Remedy::Refused("the schema itself is gone".to_owned())),
        Class::Table => refused(
            table(key, wanted, expected, names),
            "its rows are gone: bring them back from a backup; this makes it empty",
        ),
        Class::View => safe(view(key, wanted)),
        Class::Function if def(wanted).starts_with("create or replace") => safe(def(wanted)),
        Class::Function => refused(
            format!("-- create aggregate {}", key.object),
            "an aggregate is made again by the statement of its migration",
        ),
        Class::Sequence => refused(
            sequence("create", key, wanted, true),
            "which value is next can't be known: look at the rows, then run this with `restart`",
        ),
        Class::Type => match kind(key, wanted) {
            Some(sql) => safe(sql),
            None => refused(
                format!("-- create type {}", ident(&key.object)),
                "a range type is made again by the statement of its migration",
            ),
        },
    }
}

pub(super) fn alter(key: &Key, found: &Value, wanted: &Value, names: &Names<'_>) -> Way {
    match key.class {
        Class::Schema => (Vec::new(), Remedy::Safe),
        Class::Table
            if text(found, "kind") == text(wanted, "kind") && is(found, "unlogged") != is(wanted, "unlogged") =>
        {
            let word = if is(wanted, "unlogged") { "unlogged" } else { "logged" };
            refused(
                format!("alter {} set {word}", object(key)),
                "it rewrites the table under a lock: run this when that may be",
            )
        }
        Class::Table => refused(
            format!("-- make {} again: {wanted}", object(key)),
            "what kind of table it is, or whose partition, can't be changed in place: write it anew and copy the rows",
        ),
        Class::View if columns(found) == columns(wanted) => safe(view(key, wanted)),
        Class::View => refused(
            format!("drop {}; {}", object(key), view(key, wanted)),
            "its columns differ, and what uses it goes with it: look at what does, then run this",
        ),
        Class::Function => make(key, wanted, &Structure::default(), names),
        Class::Sequence => refused(
            sequence("alter", key, wanted, true),
            "which value is next depends on the rows: look at them, then run this",
        ),
        Class::Type => alter_kind(key, found, wanted),
    }
}

fn table(key: &Key, wanted: &Value, expected: &Structure, names: &Names<'_>) -> String {
    let name = ident(&key.object);
    let unlogged = if is(wanted, "unlogged") { "unlogged " } else { "" };
    let parents = wanted.get("parents").map(texts).unwrap_or_default();
    let partition_by = text(wanted, "partition_key").map_or(String::new(), |by| format!(" partition by {by}"));
    if let (Some(bound), [parent, ..]) = (text(wanted, "bound"), parents.as_slice()) {
        return format!("create {unlogged}table {name} partition of {parent} {bound}{partition_by}");
    }
    let columns: Vec<_> = expected
        .details(key)
        .filter(|(detail, column)| detail.fact == Fact::Column && (parents.is_empty() || is(column, "local")))
        .map(|(detail, column)| format!("  {}", column::definition(&detail.name, column, names)))
        .collect();
    let inherits = if parents.is_empty() {
        String::new()
    } else {
        format!(" inherits ({})", parents.join(", "))
    };
    format!(
        "create {unlogged}table {name} (\n{}\n){inherits}{partition_by}",
        columns.join(",\n")
    )
}

fn columns(view: &Value) -> Vec<&str> {
    view.get("columns").map(texts).unwrap_or_default()
}

/// `create or replace` loses the option, without which a view shows every tenant's rows.
pub(in crate::structure) fn view(key: &Key, wanted: &Value) -> String {
    let columns: Vec<_> = columns(wanted).into_iter().map(ident).collect();
    format!(
        "create or replace view {} ({}) with (security_invoker=true) as {}",
        ident(&key.object),
        columns.join(", "),
        def(wanted).trim().trim_end_matches(';')
    )
}

/// `create sequence`, `alter sequence`; with the column that it belongs to, if that is there already.
pub(in crate::structure) fn sequence(verb: &str, key: &Key, wanted: &Value, owned: bool) -> String {
    let number = |field: &str| wanted.get(field).map(ToString::to_string).unwrap_or_default();
    let cycle = if is(wanted, "cycle") { "cycle" } else { "no cycle" };
    let owned = text(wanted, "owned_by")
        .filter(|_| owned)
        .map_or(String::new(), |by| format!(" owned by {by}"));
    format!(
        "{verb} sequence {} as {} increment {} minvalue {} maxvalue {} start {} cache {} {cycle}{owned}",
        ident(&key.object),
        text(wanted, "type").unwrap_or_default(),
        number("increment"),
        number("min"),
        number("max"),
        number("start"),
        number("cache"),
    )
}

fn kind(key: &Key, wanted: &Value) -> Option<String> {
    let name = ident(&key.object);
    match text(wanted, "kind") {
        Some("e") => {
            let labels: Vec<_> = labels(wanted).into_iter().map(literal).collect();
            Some(format!("create type {name} as enum ({})", labels.join(", ")))
        }
        Some("c") => {
            let attributes: Vec<_> = wanted
                .get("attributes")
                .and_then(Value::as_array)?
                .iter()
                .map(|field| {
                    let name = ident(text(field, "name").unwrap_or_default());
                    format!("{name} {}", text(field, "type").unwrap_or_default())
                })
                .collect();
            Some(format!("create type {name} as ({})", attributes.join(", ")))
        }
        Some("d") => {
            let mut sql = format!("create domain {name} as {}", text(wanted, "base").unwrap_or_default());
            if let Some(default) = text(wanted, "default") {
                sql.push_str(&format!(" default {default}"));
            }
            if is(wanted, "not_null") {
                sql.push_str(" not null");
            }
            for check in wanted.get("checks").and_then(Value::as_array)? {
                let name = ident(text(check, "name").unwrap_or_default());
                sql.push_str(&format!(" constraint {name} {}", def(check)));
            }
            Some(sql)
        }
        _ => None,
    }
}

fn labels(kind: &Value) -> Vec<&str> {
    kind.get("labels").map(texts).unwrap_or_default()
}

/// Labels can be added; they can't go, and nothing of another kind of type can be changed without looking at rows.
fn alter_kind(key: &Key, found: &Value, wanted: &Value) -> Way {
    let name = ident(&key.object);
    let (there, all) = (labels(found), labels(wanted));
    let kept: Vec<_> = all.iter().filter(|label| there.contains(label)).collect();
    if text(wanted, "kind") == Some("e") && kept.len() == there.len() && kept.iter().zip(&there).all(|(a, b)| *a == b) {
        let sql = all.iter().enumerate().filter(|(_, label)| !there.contains(label));
        let sql = sql.map(|(at, label)| {
            let place = match at.checked_sub(1).and_then(|before| all.get(before)) {
                Some(before) => format!("after {}", literal(before)),
                None => there
                    .first()
                    .map_or(String::new(), |first| format!("before {}", literal(first))),
            };
            format!("alter type {name} add value {} {place}", literal(label))
                .trim_end()
                .to_owned()
        });
        return (sql.collect(), Remedy::Safe);
    }
    let sql = kind(key, wanted).unwrap_or_else(|| format!("-- make type {name} again"));
    refused(
        format!("-- instead of what is there: {sql}"),
        "rows may hold values that the right form does not have: look at them, and write the change by hand",
    )
}

/// Whether a trigger fires.
pub(super) fn trigger_state(key: &Key, wanted: &Value) -> Option<String> {
    let word = match text(wanted, "enabled") {
        Some("D") => "disable",
        Some("R") => "enable replica",
        Some("A") => "enable always",
        _ => "enable",
    };
    Some(format!(
        "alter table {} {word} trigger {}",
        ident(&key.object),
        ident(&key.name)
    ))
}
