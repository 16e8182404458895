//! A difference as statements: how a fact is made, undone and changed into another, and whether that may happen unseen.

pub(super) mod column;
mod object;
mod right;

pub(super) use object::{sequence, view};

use serde_json::Value;
use tenantry_core::TenantId;

use super::{
    difference::Remedy,
    fact::{Class, Fact, Key, Structure},
    read::TENANT,
};
use crate::{
    isolate::{ident, literal},
    migrate::Target,
};

/// Who the roles are in this database, and whose schema it is.
pub(super) struct Names<'a> {
    pub(super) target: &'a Target,
    pub(super) tenant: Option<TenantId>,
}

/// Statements, and whether they may be run without anybody looking.
pub(super) type Way = (Vec<String>, Remedy);

impl Names<'_> {
    /// A role by what it is for.
    fn role(&self, name: &str) -> String {
        match name {
            "@owner" => self.target.owner.to_string(),
            "@application" => self.target.application.to_string(),
            "@mover" => self.target.mover.to_string(),
            // Quoted by PostgreSQL.
            other => other.to_owned(),
        }
    }

    /// A text with the tenant's id where the structure has its mark.
    fn own(&self, text: &str) -> String {
        match self.tenant {
            Some(tenant) => text.replace(TENANT, &tenant.as_uuid().to_string()),
            None => text.to_owned(),
        }
    }
}

fn safe(sql: impl Into<String>) -> Way {
    (vec![sql.into()], Remedy::Safe)
}

fn refused(sql: impl Into<String>, sentence: impl Into<String>) -> Way {
    (vec![sql.into()], Remedy::Refused(sentence.into()))
}

/// A field of a fact that is a text.
pub(super) fn text<'v>(value: &'v Value, field: &str) -> Option<&'v str> {
    value.get(field).and_then(Value::as_str)
}

pub(super) fn is(value: &Value, field: &str) -> bool {
    value.get(field).and_then(Value::as_bool).unwrap_or_default()
}

pub(super) fn texts(value: &Value) -> Vec<&str> {
    let values = value.as_array().map(Vec::as_slice).unwrap_or_default();
    values.iter().filter_map(Value::as_str).collect()
}

pub(super) fn def(value: &Value) -> &str {
    text(value, "def").unwrap_or_default()
}

/// The object as statements name it: `table "contacts"`.
fn object(key: &Key) -> String {
    match key.class {
        Class::Schema => "schema".to_owned(),
        Class::Type => format!("type {}", ident(&key.object)),
        Class::Sequence => format!("sequence {}", ident(&key.object)),
        // With its arguments, as PostgreSQL quotes them.
        Class::Function => format!("routine {}", key.object),
        Class::Table => format!("table {}", ident(&key.object)),
        Class::View => format!("view {}", ident(&key.object)),
    }
}

/// A fact in words: `column phone of table contacts`.
pub(super) fn describe(key: &Key) -> String {
    let class = match key.class {
        Class::Schema => "schema",
        Class::Type => "type",
        Class::Sequence => "sequence",
        Class::Function => "function",
        Class::Table => "table",
        Class::View => "view",
    };
    let whole = format!("{class} {}", key.object);
    let whole = whole.trim();
    let name = key.name.trim_start_matches('@');
    match key.fact {
        Fact::Itself => whole.to_owned(),
        Fact::Owner => format!("owner of {whole}"),
        Fact::Column => format!("column {name} of {whole}"),
        Fact::Default => format!("default of column {name} of {whole}"),
        Fact::Constraint => format!("constraint {name} of {whole}"),
        Fact::Index => format!("index {name} on {whole}"),
        Fact::Statistics => format!("statistics {name} on {whole}"),
        Fact::Trigger => format!("trigger {name} on {whole}"),
        Fact::Rule => format!("rule {name} on {whole}"),
        Fact::Options => format!("options of {whole}"),
        Fact::Policy => format!("policy {name} on {whole}"),
        Fact::RowSecurity => format!("row security of {whole}"),
        Fact::Grant => format!("rights of {name} on {whole}"),
        Fact::ColumnGrant => {
            let (role, privilege) = name.rsplit_once(' ').unwrap_or((name, ""));
            format!("right of {role} to {} columns of {whole}", privilege.to_lowercase())
        }
        Fact::Comment if name.is_empty() => format!("comment on {whole}"),
        Fact::Comment => format!("comment on {name} of {whole}"),
    }
}

/// What makes a fact; `expected` is all that should be there.
pub(super) fn make(key: &Key, wanted: &Value, expected: &Structure, names: &Names<'_>) -> Way {
    let table = ident(&key.object);
    match key.fact {
        Fact::Itself => object::make(key, wanted, expected, names),
        Fact::Owner => right::own(key, wanted, names),
        Fact::Column => column::make(key, wanted, names),
        Fact::Default => column::set_view_default(key, wanted),
        Fact::Constraint => {
            let sql = format!(
                "alter table {table} add constraint {} {}",
                ident(&key.name),
                names.own(def(wanted))
            );
            refused(
                sql,
                "the rows that came meanwhile may break it, and making it reads them all: look at them, then run this",
            )
        }
        Fact::Index => index(key, wanted, None),
        Fact::Statistics => safe(def(wanted)),
        Fact::Trigger => {
            let (mut sql, remedy) = safe(def(wanted));
            sql.extend(object::trigger_state(key, wanted));
            (sql, remedy)
        }
        Fact::Rule => refused(def(wanted), "a rule rewrites queries: look at it, then run this"),
        Fact::Options => safe(options(key, &Value::Null, wanted)),
        Fact::Policy => (vec![policy(key, wanted, names)], Remedy::Safe),
        Fact::RowSecurity => (row_security(key, wanted), Remedy::Safe),
        Fact::Grant => right::grant(key, wanted, names),
        Fact::ColumnGrant => right::grant_columns(key, wanted, names),
        Fact::Comment => comment(key, Some(wanted)),
    }
}

/// What undoes a fact that should not be there.
pub(super) fn remove(key: &Key, found: &Value, names: &Names<'_>) -> Way {
    let table = ident(&key.object);
    let name = ident_or_nothing(&key.name);
    let ours = "no migration has made it: write one that does, or run this when nobody needs it";
    match key.fact {
        Fact::Itself => refused(
            format!("drop {}", object(key)),
            match key.class {
                Class::Table => {
                    "no migration has made it, and it may hold rows: write one that does, or run this when nobody needs them"
                }
                _ => ours,
            },
        ),
        Fact::Column => refused(
            format!("alter table {table} drop column {name}"),
            "no migration has made it, and it may hold values: write one that does, or run this when nobody needs them",
        ),
        Fact::Default => column::drop_view_default(key),
        Fact::Constraint => refused(format!("alter table {table} drop constraint {name}"), ours),
        Fact::Index => refused(format!("drop index {name}"), ours),
        Fact::Statistics => refused(format!("drop statistics {name}"), ours),
        Fact::Trigger => refused(format!("drop trigger {name} on {table}"), ours),
        Fact::Rule => refused(format!("drop rule {name} on {table}"), ours),
        Fact::Options => safe(options(key, found, &Value::Null)),
        // An additional policy may open the table, and without one nothing is open.
        Fact::Policy => safe(format!("drop policy {name} on {table}")),
        Fact::RowSecurity | Fact::Owner => (Vec::new(), Remedy::Safe),
        Fact::Grant => right::revoke(key, found, names),
        Fact::ColumnGrant => right::revoke_columns(key, found, names),
        Fact::Comment => comment(key, None),
    }
}

/// What makes the one into the other.
pub(super) fn alter(key: &Key, found: &Value, wanted: &Value, names: &Names<'_>) -> Way {
    let table = ident(&key.object);
    let name = ident_or_nothing(&key.name);
    match key.fact {
        Fact::Itself => object::alter(key, found, wanted, names),
        Fact::Owner => right::own(key, wanted, names),
        Fact::Column => column::alter(key, found, wanted, names),
        Fact::Default => column::set_view_default(key, wanted),
        Fact::Constraint => {
            let sql = format!(
                "alter table {table} drop constraint {name}, add constraint {name} {}",
                names.own(def(wanted))
            );
            refused(
                sql,
                "the rows that came meanwhile may break it, and making it reads them all: look at them, then run this",
            )
        }
        Fact::Index => index(key, wanted, Some(found)),
        Fact::Statistics => (
            vec![format!("drop statistics {name}"), def(wanted).to_owned()],
            Remedy::Safe,
        ),
        Fact::Trigger => {
            let mut sql = Vec::new();
            if def(found) != def(wanted) {
                sql.extend([format!("drop trigger {name} on {table}"), def(wanted).to_owned()]);
            }
            sql.extend(object::trigger_state(key, wanted));
            (sql, Remedy::Safe)
        }
        Fact::Rule => refused(def(wanted), "a rule rewrites queries: look at it, then run this"),
        Fact::Options => safe(options(key, found, wanted)),
        Fact::Policy => (
            vec![format!("drop policy {name} on {table}"), policy(key, wanted, names)],
            Remedy::Safe,
        ),
        Fact::RowSecurity => (row_security(key, wanted), Remedy::Safe),
        Fact::Grant => right::regrant(key, found, wanted, names),
        Fact::ColumnGrant => right::regrant_columns(key, found, wanted, names),
        Fact::Comment => comment(key, Some(wanted)),
    }
}

fn ident_or_nothing(name: &str) -> String {
    if name.is_empty() { String::new() } else { ident(name) }
}

/// Built while the table is written; the old one stands until the new one is there. A partitioned table's can't be.
fn index(key: &Key, wanted: &Value, found: Option<&Value>) -> Way {
    const MEANWHILE: &str = "\"tenantry_repair\"";
    let name = ident(&key.name);
    let plain = def(wanted).replacen(" ON ONLY ", " ON ", 1);
    if is(wanted, "partitioned") {
        let mut sql = vec![plain];
        if found.is_some() {
            sql.insert(0, format!("drop index {name}"));
        }
        return (
            sql,
            Remedy::Refused(
                "the index of a partitioned table is built under a lock that stops writes: run this when that may be"
                    .to_owned(),
            ),
        );
    }
    let concurrently = |name: &str| concurrently(name, wanted);
    let sql = match found {
        None => vec![concurrently(&name)],
        Some(found) if !is(found, "valid") => vec![format!("drop index concurrently {name}"), concurrently(&name)],
        Some(_) => vec![
            format!("drop index concurrently if exists {MEANWHILE}"),
            concurrently(MEANWHILE),
            format!("drop index concurrently {name}"),
            format!("alter index {MEANWHILE} rename to {name}"),
        ],
    };
    (sql, Remedy::SafeAlone)
}

/// The statement that makes an index, under this quoted name, while its table is written.
pub(super) fn concurrently(name: &str, wanted: &Value) -> String {
    let unique = if is(wanted, "unique") { "unique " } else { "" };
    let plain = def(wanted).replacen(" ON ONLY ", " ON ", 1);
    let rest = plain.split_once(" ON ").map_or("", |(_, rest)| rest);
    format!("create {unique}index concurrently {name} on {rest}")
}

fn policy(key: &Key, wanted: &Value, names: &Names<'_>) -> String {
    let command = match text(wanted, "command") {
        Some("r") => "select",
        Some("a") => "insert",
        Some("w") => "update",
        Some("d") => "delete",
        _ => "all",
    };
    let restrictive = if is(wanted, "permissive") {
        ""
    } else {
        "as restrictive "
    };
    let mut sql = format!(
        "create policy {} on {} {restrictive}for {command}",
        ident(&key.name),
        ident(&key.object)
    );
    let roles: Vec<_> = wanted.get("roles").map(texts).unwrap_or_default();
    if roles != ["public"] {
        let roles: Vec<_> = roles.into_iter().map(|role| names.role(role)).collect();
        sql.push_str(&format!(" to {}", roles.join(", ")));
    }
    for (word, field) in [("using", "using"), ("with check", "check")] {
        if let Some(expression) = text(wanted, field) {
            sql.push_str(&format!(" {word} ({})", names.own(expression)));
        }
    }
    sql
}

fn row_security(key: &Key, wanted: &Value) -> Vec<String> {
    let enable = if is(wanted, "enabled") { "enable" } else { "disable" };
    let force = if is(wanted, "forced") { "force" } else { "no force" };
    vec![format!(
        "alter table {} {enable} row level security, {force} row level security",
        ident(&key.object)
    )]
}

/// Sets what is wanted and resets what is not.
pub(super) fn options(key: &Key, found: &Value, wanted: &Value) -> String {
    let wanted = texts(wanted);
    let name = |option: &str| option.split('=').next().unwrap_or_default().to_owned();
    let gone: Vec<_> = texts(found)
        .into_iter()
        .map(name)
        .filter(|found| !wanted.iter().any(|wanted| name(wanted) == *found))
        .collect();
    let mut actions = Vec::new();
    if !wanted.is_empty() {
        actions.push(format!("set ({})", wanted.join(", ")));
    }
    if !gone.is_empty() {
        actions.push(format!("reset ({})", gone.join(", ")));
    }
    if key.class == Class::Table {
        return format!("alter {} {}", object(key), actions.join(", "));
    }
    // `alter view` takes one action.
    let actions: Vec<_> = actions
        .into_iter()
        .map(|action| format!("alter {} {action}", object(key)))
        .collect();
    actions.join("; ")
}

pub(super) fn comment(key: &Key, wanted: Option<&Value>) -> Way {
    let text = wanted.and_then(Value::as_str).map_or("null".to_owned(), literal);
    let on = match key.name.split_once(' ') {
        None => object(key),
        Some(("column", column)) => format!("column {}.{column}", ident(&key.object)),
        Some(("index", index)) => format!("index {index}"),
        Some((what, name)) => format!("{what} {name} on {}", ident(&key.object)),
    };
    safe(format!("comment on {on} is {text}"))
}
