//! Functions and procedures: their text runs as it is; those that would run with another's rights are refused.

use super::{
    change::{Change, Outcome},
    quote::ident,
    snapshot::Function,
};

/// What no function may be, whichever statement made it.
pub(super) fn examined(change: &Change<'_>, out: &mut Outcome) {
    for (oid, function) in &change.after.functions {
        let unchanged = change
            .before
            .functions
            .get(oid)
            .is_some_and(|before| before.stamp == function.stamp);
        if unchanged || change.allowed.contains(&function.name) {
            continue;
        }
        if function.definer {
            out.refuse(
                format!(
                    "`{}` is `security definer`: it would run with the rights of the tables' owner",
                    function.name
                ),
                format!(
                    "write `security invoker`, or declare `-- tenantry: allow {}` after review",
                    function.name
                ),
            );
        }
        if function.leakproof {
            out.refuse(
                format!(
                    "`{}` is `leakproof`: it would see other tenants' values before row security does",
                    function.name
                ),
                "leave `leakproof` out",
            );
        }
        let switches = function.settings.iter().find(|setting| {
            [
                "row_security",
                "search_path",
                "role",
                "session_authorization",
                "tenantry.",
                "backtrace_functions",
            ]
            .iter()
            .any(|name| setting.starts_with(name))
        });
        if let Some(setting) = switches {
            out.refuse(
                format!("`{}` sets `{setting}`, which is chosen by the placement", function.name),
                "leave the setting out",
            );
        }
    }
}

/// Functions that no statement of their own made.
pub(super) fn made(change: &Change<'_>, schema: &str, out: &mut Outcome) {
    for (oid, function) in &change.after.functions {
        let before = change.before.functions.get(oid);
        if before.is_some_and(|before| before.stamp == function.stamp) {
            continue;
        }
        if let Some(before) = before.filter(|before| before.name != function.name) {
            out.sql(format!(
                "alter routine {}({}) rename to {}",
                ident(&before.name),
                before.identity,
                ident(&function.name)
            ));
        }
        match text(function, schema) {
            Some(text) => out.sql(text),
            None => out.refuse(
                format!("`{}` is an aggregate made inside another statement", function.name),
                "write `create aggregate` as a statement of its own",
            ),
        }
    }
}

/// The server's own text of it, without the schema that it puts before the name.
fn text(function: &Function, schema: &str) -> Option<String> {
    let def = function.def.as_ref()?;
    let what = if function.kind == 'p' { "PROCEDURE" } else { "FUNCTION" };
    let head = format!("CREATE OR REPLACE {what} {schema}.{}(", function.quoted);
    let rest = def.strip_prefix(&head)?;
    Some(format!(
        "create or replace {} {}({rest}",
        what.to_lowercase(),
        ident(&function.name)
    ))
}

pub(super) fn dropped(change: &Change<'_>, out: &mut Outcome) {
    for (oid, function) in &change.before.functions {
        if !change.after.functions.contains_key(oid) {
            let what = if function.kind == 'a' { "aggregate" } else { "routine" };
            out.sql(format!("drop {what} {}({})", ident(&function.name), function.identity));
        }
    }
}
