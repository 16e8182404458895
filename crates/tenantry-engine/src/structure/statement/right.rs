//! Who owns what, and who may do what with it. All of it is safe to mend: no row changes.

use serde_json::Value;

use super::{Names, Way, object, safe, texts};
use crate::{
    isolate::{ident, idents},
    structure::{
        difference::Remedy,
        fact::{Class, Key},
    },
};

pub(super) fn own(key: &Key, wanted: &Value, names: &Names<'_>) -> Way {
    let owner = names.role(wanted.as_str().unwrap_or_default());
    let what = on(key, names);
    // Run as who the owner is now, which the repair does for this one.
    safe(format!("alter {what} owner to {owner}"))
}

/// The object as `grant` names it.
fn on(key: &Key, names: &Names<'_>) -> String {
    match key.class {
        Class::Schema => format!("schema {}", names.target.schema),
        Class::View => format!("view {}", ident(&key.object)),
        _ => object(key),
    }
}

fn granted_on(key: &Key, names: &Names<'_>) -> String {
    match key.class {
        // `grant … on view` is not known.
        Class::View => format!("table {}", ident(&key.object)),
        _ => on(key, names),
    }
}

/// Privileges that can be passed on, and those that can't.
fn split<'v>(privileges: &[&'v str]) -> (Vec<&'v str>, Vec<&'v str>) {
    let (passed, plain): (Vec<&str>, Vec<&str>) =
        privileges.iter().partition(|one| one.ends_with(" with grant option"));
    let passed = passed
        .into_iter()
        .map(|one| one.trim_end_matches(" with grant option"))
        .collect();
    (plain, passed)
}

fn grants(key: &Key, privileges: &[&str], names: &Names<'_>) -> Vec<String> {
    let (plain, passed) = split(privileges);
    let (what, role) = (granted_on(key, names), names.role(&key.name));
    let mut sql = Vec::new();
    if !plain.is_empty() {
        sql.push(format!("grant {} on {what} to {role}", plain.join(", ").to_lowercase()));
    }
    if !passed.is_empty() {
        sql.push(format!(
            "grant {} on {what} to {role} with grant option",
            passed.join(", ").to_lowercase()
        ));
    }
    sql
}

fn revokes(key: &Key, privileges: &[&str], names: &Names<'_>) -> Vec<String> {
    if privileges.is_empty() {
        return Vec::new();
    }
    let (plain, passed) = split(privileges);
    let all: Vec<_> = plain.into_iter().chain(passed).collect();
    vec![format!(
        "revoke {} on {} from {}",
        all.join(", ").to_lowercase(),
        granted_on(key, names),
        names.role(&key.name)
    )]
}

pub(super) fn grant(key: &Key, wanted: &Value, names: &Names<'_>) -> Way {
    (grants(key, &texts(wanted), names), Remedy::Safe)
}

pub(super) fn revoke(key: &Key, found: &Value, names: &Names<'_>) -> Way {
    (revokes(key, &texts(found), names), Remedy::Safe)
}

pub(super) fn regrant(key: &Key, found: &Value, wanted: &Value, names: &Names<'_>) -> Way {
    let (found, wanted) = (texts(found), texts(wanted));
    let gone = without(&found, &wanted);
    let mut sql = revokes(key, &gone, names);
    sql.extend(grants(key, &without(&wanted, &found), names));
    (sql, Remedy::Safe)
}

fn without<'v>(these: &[&'v str], those: &[&str]) -> Vec<&'v str> {
    these.iter().copied().filter(|this| !those.contains(this)).collect()
}

fn of_columns(verb: &str, key: &Key, columns: &[&str], names: &Names<'_>) -> Option<String> {
    let (role, privilege) = key.name.rsplit_once(' ')?;
    let word = if verb == "grant" { "to" } else { "from" };
    (!columns.is_empty()).then(|| {
        format!(
            "{verb} {} ({}) on {} {word} {}",
            privilege.to_lowercase(),
            idents(columns.iter().copied()),
            granted_on(key, names),
            names.role(role)
        )
    })
}

pub(super) fn grant_columns(key: &Key, wanted: &Value, names: &Names<'_>) -> Way {
    let sql = of_columns("grant", key, &texts(wanted), names);
    (sql.into_iter().collect(), Remedy::Safe)
}

pub(super) fn revoke_columns(key: &Key, found: &Value, names: &Names<'_>) -> Way {
    let sql = of_columns("revoke", key, &texts(found), names);
    (sql.into_iter().collect(), Remedy::Safe)
}

pub(super) fn regrant_columns(key: &Key, found: &Value, wanted: &Value, names: &Names<'_>) -> Way {
    let (found, wanted) = (texts(found), texts(wanted));
    let revoke = of_columns("revoke", key, &without(&found, &wanted), names);
    let grant = of_columns("grant", key, &without(&wanted, &found), names);
    (revoke.into_iter().chain(grant).collect(), Remedy::Safe)
}
