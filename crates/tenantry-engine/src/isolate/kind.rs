//! Enums, domains and composite types that no statement of their own made (a `do` block did).

use super::{
    change::{Change, Outcome},
    quote::{ident, literal},
    snapshot::Type,
};

pub(super) fn made(change: &Change<'_>, out: &mut Outcome) {
    for (oid, new) in &change.after.types {
        match change.before.types.get(oid) {
            None => create(new, out),
            Some(old) => alter(old, new, out),
        }
    }
}

pub(super) fn renamed(change: &Change<'_>, out: &mut Outcome) {
    for (oid, old) in &change.before.types {
        let Some(new) = change.after.types.get(oid) else {
            continue;
        };
        if old.name != new.name {
            out.sql(format!(
                "alter type {} rename to {}",
                ident(&old.name),
                ident(&new.name)
            ));
        }
        for label in &old.labels {
            let now = new.labels.iter().find(|now| now.oid == label.oid);
            if let Some(now) = now.filter(|now| now.label != label.label) {
                out.sql(format!(
                    "alter type {} rename value {} to {}",
                    ident(&new.name),
                    literal(&label.label),
                    literal(&now.label)
                ));
            }
        }
    }
}

pub(super) fn dropped(change: &Change<'_>, out: &mut Outcome) {
    for (oid, old) in change.before.types.iter().rev() {
        if !change.after.types.contains_key(oid) {
            let what = if old.kind == 'd' { "domain" } else { "type" };
            out.sql(format!("drop {what} {}", ident(&old.name)));
        }
    }
}

fn create(new: &Type, out: &mut Outcome) {
    let name = ident(&new.name);
    match new.kind {
        'e' => {
            let labels: Vec<_> = new.labels.iter().map(|label| literal(&label.label)).collect();
            out.sql(format!("create type {name} as enum ({})", labels.join(", ")));
        }
        'c' => {
            let attributes: Vec<_> = new
                .attributes
                .iter()
                .map(|attribute| format!("{} {}", ident(&attribute.name), attribute.ty))
                .collect();
            out.sql(format!("create type {name} as ({})", attributes.join(", ")));
        }
        'd' => {
            let mut text = format!("create domain {name} as {}", new.base.clone().unwrap_or_default());
            if let Some(default) = &new.default {
                text.push_str(&format!(" default {default}"));
            }
            if new.not_null {
                text.push_str(" not null");
            }
            for check in &new.checks {
                text.push_str(&format!(" constraint {} {}", ident(&check.name), check.def));
            }
            out.sql(text);
        }
        _ => out.refuse(
            format!("`{}` is a range type made inside another statement", new.name),
            "write `create type` as a statement of its own",
        ),
    }
}

fn alter(old: &Type, new: &Type, out: &mut Outcome) {
    if new.kind == 'e' {
        for (at, label) in new.labels.iter().enumerate() {
            if old.labels.iter().any(|old| old.oid == label.oid) {
                continue;
            }
            let place = match at.checked_sub(1).map(|before| &new.labels[before].label) {
                Some(before) => format!("after {}", literal(before)),
                None => format!("before {}", literal(&new.labels[1].label)),
            };
            out.sql(format!(
                "alter type {} add value {} {place}",
                ident(&new.name),
                literal(&label.label)
            ));
        }
        return;
    }
    let shape = |of: &Type| {
        (
            of.base.clone(),
            of.default.clone(),
            of.not_null,
            of.checks.clone(),
            of.attributes.clone(),
        )
    };
    if shape(old) != shape(new) {
        out.refuse(
            format!("the type `{}` is changed inside another statement", new.name),
            "write `alter domain` or `alter type` as a statement of its own",
        );
    }
}
