//! Triggers and policies of the application's: their text runs as it is.

use super::{
    change::{Change, Outcome},
    quote::ident,
};

/// Triggers that no statement of their own dropped.
pub(super) fn dropped(change: &Change<'_>, out: &mut Outcome) {
    for (oid, trigger) in &change.before.triggers {
        let name = change.before.tables.get(&trigger.table).map(|table| &table.name);
        if let Some(table) = name
            && !change.after.triggers.contains_key(oid)
            && change.kept(trigger.table)
            && !trigger.inherited
        {
            out.sql(format!("drop trigger {} on {}", ident(&trigger.name), ident(table)));
        }
    }
}

/// Policies that went with a column.
pub(super) fn dropped_policies(change: &Change<'_>, out: &mut Outcome) {
    for (oid, policy) in &change.before.policies {
        if let Some(table) = change.before.tables.get(&policy.table)
            && !change.after.policies.contains_key(oid)
            && change.kept(policy.table)
        {
            out.sql(format!("drop policy {} on {}", ident(&policy.name), ident(&table.name)));
        }
    }
}

/// Triggers that no statement of their own made.
pub(super) fn made(change: &Change<'_>, out: &mut Outcome) {
    for (oid, trigger) in &change.after.triggers {
        if !trigger.inherited && !change.before.triggers.contains_key(oid) {
            out.sql(trigger.def.clone());
        }
    }
}

/// A permissive policy of the application's would be joined to ours by OR and have no effect.
pub(super) fn examine_policies(change: &Change<'_>, out: &mut Outcome) {
    for (oid, policy) in &change.after.policies {
        if !change.before.policies.contains_key(oid) && policy.permissive {
            let table = change
                .table(policy.table)
                .map(|table| table.name.clone())
                .unwrap_or_default();
            out.refuse(
                format!(
                    "the policy `{}` on `{table}` is permissive: PostgreSQL joins it by OR with the tenant's own, so it narrows nothing",
                    policy.name
                ),
                "write `as restrictive`; the tenant's own policy already hides other tenants' rows",
            );
        }
    }
}
