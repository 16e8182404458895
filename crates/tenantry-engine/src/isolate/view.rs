//! Views: with `security_invoker`, so that the caller's row security applies below them.

use super::{
    change::{Change, Outcome},
    quote::{ident, literal},
    snapshot::View,
};

pub(super) fn dropped(change: &Change<'_>, out: &mut Outcome) {
    for (oid, view) in change.before.views.iter().rev() {
        if !change.after.views.contains_key(oid) {
            out.sql(format!("drop view {}", ident(&view.name)));
        }
    }
}

pub(super) fn renamed(change: &Change<'_>, out: &mut Outcome) {
    for (oid, before) in &change.before.views {
        let Some(after) = change.after.views.get(oid) else {
            continue;
        };
        if before.name != after.name {
            out.sql(format!(
                "alter view {} rename to {}",
                ident(&before.name),
                ident(&after.name)
            ));
        }
        for old in &before.columns {
            let new = after.columns.iter().find(|new| new.num == old.num);
            if let Some(new) = new.filter(|new| new.name != old.name) {
                out.sql(format!(
                    "alter view {} rename column {} to {}",
                    ident(&after.name),
                    ident(&old.name),
                    ident(&new.name)
                ));
            }
        }
    }
}

/// New and replaced views. `create or replace` loses the option, so it stands in every one of them.
pub(super) fn made(change: &Change<'_>, out: &mut Outcome) {
    for (oid, view) in &change.after.views {
        let before = change.before.views.get(oid);
        if before.is_some_and(|before| before.stamp == view.stamp && before.options == view.options) {
            defaults(before, view, out);
            continue;
        }
        if view.rules > 0 {
            out.refuse(format!("`{}` has a rule", view.name), "write an `instead of` trigger");
        }
        out.sql(text(view));
        if before.is_none() {
            out.note(&view.name, "view: `security_invoker` on");
        }
        defaults(before, view, out);
    }
    for (oid, view) in &change.after.views {
        let before = change.before.views.get(oid).and_then(|before| before.comment.clone());
        if before != view.comment {
            let comment = view.comment.as_deref().map_or("null".to_owned(), literal);
            out.sql(format!("comment on view {} is {comment}", ident(&view.name)));
        }
    }
}

fn text(view: &View) -> String {
    let mut options: Vec<&str> = view
        .options
        .iter()
        .map(String::as_str)
        .filter(|option| !option.starts_with("security_invoker"))
        .collect();
    options.push("security_invoker=true");
    let columns = view.columns.iter().map(|column| column.name.as_str());
    format!(
        "create or replace view {} ({}) with ({}) as {}",
        ident(&view.name),
        super::quote::idents(columns),
        options.join(", "),
        view.def.trim().trim_end_matches(';')
    )
}

fn defaults(before: Option<&View>, view: &View, out: &mut Outcome) {
    for column in &view.columns {
        let old = before
            .and_then(|before| before.columns.iter().find(|old| old.num == column.num))
            .and_then(|old| old.default.clone());
        if old == column.default {
            continue;
        }
        let change = column
            .default
            .as_ref()
            .map_or("drop default".to_owned(), |default| format!("set default {default}"));
        out.sql(format!(
            "alter view {} alter column {} {change}",
            ident(&view.name),
            ident(&column.name)
        ));
    }
}
