//! Foreign keys: composite with `tenant_id` between isolated tables, as they are to reference tables.

use super::{
    change::{Change, Outcome},
    constraint::deferral,
    quote::{ident, idents, literal},
    snapshot::Constraint,
};

/// Whether it can be written into `create table`: its target stands already, or is the table itself.
pub(super) fn can_stand_inline(change: &Change<'_>, key: &Constraint) -> bool {
    key.table == key.target || change.before.tables.contains_key(&key.target)
}

/// What follows `constraint <name>`.
pub(super) fn definition(change: &Change<'_>, key: &Constraint, out: &mut Outcome) -> Option<String> {
    let (child, target) = (change.table(key.table)?, change.table(key.target)?);
    match (change.isolated(key.table), change.isolated(key.target)) {
        (_, false) => return Some(key.def.clone()),
        (false, true) => {
            out.refuse(
                format!(
                    "the reference table `{}` points to `{}`, which holds tenants' rows",
                    child.name, target.name
                ),
                format!(
                    "declare `{}` a reference table too, or leave the foreign key out",
                    target.name
                ),
            );
            return None;
        }
        (true, true) => {}
    }
    if matches!(key.on_update, 'n' | 'd') {
        out.refuse(
            format!(
                "`on update set {}` of `{}` would also change `tenant_id`, and PostgreSQL takes no columns there",
                if key.on_update == 'n' { "null" } else { "default" },
                key.name
            ),
            "write `on update cascade` or leave it out",
        );
        return None;
    }
    let period = if key.def.contains("PERIOD ") { "period " } else { "" };
    let columns = |names: Vec<&str>| {
        let (last, first) = names.split_last()?;
        let first = first
            .iter()
            .map(|name| format!("{}, ", ident(name)))
            .collect::<String>();
        Some(format!("{first}{period}{}", ident(last)))
    };
    let mut text = format!(
        "foreign key (tenant_id, {}) references {} (tenant_id, {})",
        columns(child.names(&key.columns))?,
        ident(&target.name),
        columns(target.names(&key.target_columns))?
    );
    if let Some(action) = action(key.on_update) {
        text.push_str(&format!(" on update {action}"));
    }
    if let Some(action) = action(key.on_delete) {
        text.push_str(&format!(" on delete {action}"));
        if matches!(key.on_delete, 'n' | 'd') {
            let named = if key.delete_columns.is_empty() {
                &key.columns
            } else {
                &key.delete_columns
            };
            text.push_str(&format!(" ({})", idents(child.names(named))));
        }
    }
    text.push_str(&deferral(key));
    if is_unenforced(key) {
        text.push_str(" not enforced");
    } else if !key.validated {
        text.push_str(" not valid");
    }
    out.note(&child.name, format!("`{}` holds within the tenant: {text}", key.name));
    if let Some(check) = full_check(change, key) {
        out.note(
            &child.name,
            format!("`match full` of `{}` became a check: {check}", key.name),
        );
    }
    Some(text)
}

/// PostgreSQL 18 can note a foreign key without checking it.
fn is_unenforced(key: &Constraint) -> bool {
    key.def.ends_with(" NOT ENFORCED")
}

fn action(code: char) -> Option<&'static str> {
    match code {
        'r' => Some("restrict"),
        'c' => Some("cascade"),
        'n' => Some("set null"),
        'd' => Some("set default"),
        _ => None,
    }
}

/// New foreign keys that do not stand in a `create table`.
pub(super) fn made(change: &Change<'_>, out: &mut Outcome) {
    let new: Vec<_> = change
        .made_constraints()
        .filter(|(_, new)| new.kind == 'f')
        .map(|(_, new)| new)
        .collect();
    for key in new {
        let inline = change.made(key.table) && can_stand_inline(change, key);
        if !inline && let Some(definition) = definition(change, key, out) {
            let text = format!(
                "alter table {} add constraint {} {definition}",
                change.table_name(key.table),
                ident(&key.name)
            );
            if key.validated {
                checked(change, key, text, out);
            } else {
                out.sql(text);
            }
        }
        if let Some(check) = full_check(change, key) {
            out.sql(format!(
                "alter table {} add constraint {} {check}",
                change.table_name(key.table),
                ident(&full_check_name(&key.name))
            ));
        }
    }
}

/// Runs a statement that checks a foreign key over rows that may exist, with the rows visible, and counts violations afterwards.
pub(super) fn checked(change: &Change<'_>, key: &Constraint, text: String, out: &mut Outcome) {
    if !change.may_hold_rows(key.table) {
        out.sql(text);
        return;
    }
    change.unforced(&[key.table, key.target], out, |out| {
        out.sql(text);
        if let Some(count) = count_violations(change, key) {
            out.sql_if_filled(count);
        }
    });
}

fn count_violations(change: &Change<'_>, key: &Constraint) -> Option<String> {
    let (child, target) = (change.table(key.table)?, change.table(key.target)?);
    if key.def.contains("PERIOD ") {
        return None;
    }
    let mut pairs: Vec<(&str, &str)> = child
        .names(&key.columns)
        .into_iter()
        .zip(target.names(&key.target_columns))
        .collect();
    let not_null = pairs
        .iter()
        .map(|(column, _)| format!("c.{} is not null", ident(column)))
        .collect::<Vec<_>>()
        .join(" and ");
    if change.isolated(key.target) {
        pairs.push(("tenant_id", "tenant_id"));
    }
    let matches = pairs
        .iter()
        .map(|(column, target)| format!("p.{} = c.{}", ident(target), ident(column)))
        .collect::<Vec<_>>()
        .join(" and ");
    let message = format!("tenantry: rows of {} break {}", child.name, key.name);
    Some(format!(
        "do $tenantry$ begin if exists (select from {} c where {not_null} and not exists (select from {} p where {matches})) \
         then raise exception using errcode = '23503', message = {}; end if; end $tenantry$",
        ident(&child.name),
        ident(&target.name),
        literal(&message)
    ))
}

/// `match full` with `tenant_id` in the key would refuse every null; over several columns a check keeps its meaning.
fn full_check(change: &Change<'_>, key: &Constraint) -> Option<String> {
    let composite = change.isolated(key.table) && change.isolated(key.target);
    if key.matching != 'f' || key.columns.len() < 2 || !composite {
        return None;
    }
    let names = change.table(key.table)?.names(&key.columns);
    let validity = if key.validated { "" } else { " not valid" };
    Some(format!(
        "check (num_nulls({}) in (0, {})){validity}",
        idents(names.iter().copied()),
        names.len()
    ))
}

/// At most 63 bytes, and the same for the same key.
fn full_check_name(key: &str) -> String {
    super::helper::name(key, "full")
}

pub(super) fn drop_full_check(change: &Change<'_>, key: &Constraint, out: &mut Outcome) {
    if key.matching == 'f' && key.columns.len() > 1 && change.kept(key.table) {
        let table = &change.before.tables[&key.table].name;
        out.sql(format!(
            "alter table {} drop constraint if exists {}",
            ident(table),
            ident(&full_check_name(&key.name))
        ));
    }
}

pub(super) fn rename_full_check(change: &Change<'_>, before: &Constraint, after: &Constraint, out: &mut Outcome) {
    if after.kind == 'f' && full_check(change, after).is_some() {
        out.sql(format!(
            "alter table {} rename constraint {} to {}",
            change.table_name(after.table),
            ident(&full_check_name(&before.name)),
            ident(&full_check_name(&after.name))
        ));
    }
}
