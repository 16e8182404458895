//! Primary keys, uniques, exclusions and checks: keys are led by `tenant_id`.

use super::{
    change::{Change, Outcome},
    foreign_key,
    quote::ident,
    snapshot::{Constraint, Oid},
};

/// What follows `constraint <name>`.
pub(super) fn definition(change: &Change<'_>, _oid: Oid, constraint: &Constraint, out: &mut Outcome) -> Option<String> {
    let def = &constraint.def;
    if !change.isolated(constraint.table) || constraint.kind == 'c' {
        return Some(def.clone());
    }
    let lead = match constraint.kind {
        'x' => "tenant_id with =",
        _ => "tenant_id",
    };
    let led = ["PRIMARY KEY (", "UNIQUE (", "UNIQUE NULLS NOT DISTINCT ("]
        .into_iter()
        .find_map(|prefix| Some((prefix.to_owned(), def.strip_prefix(prefix)?)))
        .or_else(|| {
            let method = def.strip_prefix("EXCLUDE USING ")?.split_once(" (")?.0;
            let prefix = format!("EXCLUDE USING {method} (");
            let rest = def.strip_prefix(prefix.as_str())?;
            Some((prefix, rest))
        });
    let Some((prefix, rest)) = led else {
        out.refuse(
            format!("the constraint `{}` reads `{def}`, which is not known", constraint.name),
            "write it as a primary key, unique, exclusion, check or foreign key",
        );
        return None;
    };
    if prefix.starts_with("EXCLUDE USING ") && !prefix.contains(" gist ") && !prefix.contains(" btree ") {
        out.refuse(
            format!(
                "the exclusion constraint `{}` uses an index that can't hold `tenant_id` beside its columns, \
                 so it would exclude across tenants",
                constraint.name
            ),
            "write it `using gist`",
        );
        return None;
    }
    if prefix.contains(" gist ") || def.contains("WITHOUT OVERLAPS") {
        out.extensions.insert("btree_gist".to_owned());
    }
    let text = format!("{prefix}{lead}, {rest}");
    if let Some(table) = change.table(constraint.table) {
        out.note(&table.name, format!("`{}` led by `tenant_id`: {text}", constraint.name));
    }
    Some(text)
}

pub(super) fn dropped(change: &Change<'_>, out: &mut Outcome) {
    let gone: Vec<_> = change.dropped_constraints().collect();
    let (keys, others): (Vec<_>, Vec<_>) = gone.into_iter().partition(|(_, gone)| gone.kind == 'f');
    for (_, constraint) in keys.into_iter().chain(others) {
        // Names are still those from before: renames come after.
        let table = &change.before.tables[&constraint.table].name;
        out.sql(format!(
            "alter table {} drop constraint {}",
            ident(table),
            ident(&constraint.name)
        ));
        if constraint.kind == 'f' {
            foreign_key::drop_full_check(change, constraint, out);
        }
    }
}

/// What a drop that runs as written leaves behind of ours.
pub(super) fn dropped_full_checks(change: &Change<'_>, out: &mut Outcome) {
    let gone: Vec<_> = change.dropped_constraints().map(|(_, gone)| gone).collect();
    for key in gone.into_iter().filter(|gone| gone.kind == 'f') {
        foreign_key::drop_full_check(change, key, out);
    }
}

pub(super) fn renamed(change: &Change<'_>, out: &mut Outcome) {
    for (oid, before) in &change.before.constraints {
        let Some(after) = change.after.constraints.get(oid).filter(|after| !after.inherited) else {
            continue;
        };
        if before.name != after.name {
            out.sql(format!(
                "alter table {} rename constraint {} to {}",
                change.table_name(after.table),
                ident(&before.name),
                ident(&after.name)
            ));
            foreign_key::rename_full_check(change, before, after, out);
        }
    }
}

/// New constraints of tables that stood before, foreign keys apart.
pub(super) fn made(change: &Change<'_>, out: &mut Outcome) {
    let new: Vec<_> = change
        .made_constraints()
        .filter(|(_, new)| new.kind != 'f' && change.kept(new.table))
        .collect();
    for (oid, constraint) in new {
        let table = change.table_name(constraint.table);
        let name = ident(&constraint.name);
        if let Some(index) = change.before.indexes.get(&constraint.index) {
            let kind = if constraint.kind == 'p' {
                "primary key"
            } else {
                "unique"
            };
            let deferral = deferral(constraint);
            // `using index` renames the index to the constraint.
            let index = ident(&index.name);
            out.sql(format!(
                "alter table {table} add constraint {name} {kind} using index {index}{deferral}"
            ));
        } else if let Some(definition) = definition(change, oid, constraint, out) {
            out.sql(format!("alter table {table} add constraint {name} {definition}"));
        }
    }
}

/// Constraints that were validated or made deferrable.
pub(super) fn altered(change: &Change<'_>, out: &mut Outcome) {
    for (oid, before) in &change.before.constraints {
        let Some(after) = change.after.constraints.get(oid).filter(|after| !after.inherited) else {
            continue;
        };
        let table = change.table_name(after.table);
        let name = ident(&after.name);
        if after.kind == 'f' && (before.deferrable, before.deferred) != (after.deferrable, after.deferred) {
            let deferral = if after.deferrable {
                deferral(after)
            } else {
                " not deferrable".into()
            };
            out.sql(format!("alter table {table} alter constraint {name}{deferral}"));
        }
        if before.def.ends_with(" NOT ENFORCED") != after.def.ends_with(" NOT ENFORCED") {
            let not = if after.validated { "" } else { "not " };
            let text = format!("alter table {table} alter constraint {name} {not}enforced");
            foreign_key::checked(change, after, text, out);
        } else if !before.validated && after.validated {
            let text = format!("alter table {table} validate constraint {name}");
            if after.kind == 'f' {
                foreign_key::checked(change, after, text, out);
            } else {
                out.sql(text);
            }
        }
    }
}

/// ` deferrable initially deferred`, or what of it applies.
pub(super) fn deferral(constraint: &Constraint) -> String {
    match (constraint.deferrable, constraint.deferred) {
        (false, _) => String::new(),
        (true, false) => " deferrable".into(),
        (true, true) => " deferrable initially deferred".into(),
    }
}
