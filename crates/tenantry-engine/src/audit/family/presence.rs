//! Row security on tables: is it there, and does it bind.

use std::collections::BTreeMap;

use super::{name, quoted, roles};
use crate::audit::{
    Finding, Severity, Subject,
    catalog::{Catalog, Relation},
    prove::Weakness,
};

pub(super) fn find(catalog: &Catalog, subject: &Subject) -> Vec<Finding> {
    let mut found = Vec::new();
    for table in catalog
        .relations
        .values()
        .filter(|table| table.is_table() && !table.of_extension)
    {
        match &table.tenant_column {
            Some(column) => tenant_table(catalog, subject, table, column, &mut found),
            None => other_table(catalog, subject, table, &mut found),
        }
        protection(catalog, table, &mut found);
        children(catalog, subject, table, &mut found);
        grants(catalog, subject, table, &mut found);
    }
    types(catalog, &mut found);
    sequences(catalog, subject, &mut found);
    found
}

fn tenant_table(catalog: &Catalog, subject: &Subject, table: &Relation, column: &str, found: &mut Vec<Finding>) {
    let (object, quoted_table, column) = (table.object(), quoted(table), name(column));
    if !table.row_security && catalog.policies_of(table.oid).is_empty() && !table.is_child() {
        let finding = Finding::new(
            "MT001",
            object.as_str(),
            "it has the tenant column and no row level security",
            format!(
                "alter table {quoted_table} enable row level security; alter table {quoted_table} force row level security; \
                 create policy isolation on {quoted_table} using ({column} = (select <the context>))"
            ),
        );
        found.push(reached(finding, table));
    }
    if table.is_child() {
        return;
    }
    let checked = catalog.constraints.iter().any(|constraint| {
        constraint.relation == table.oid
            && constraint.kind == 'c'
            && constraint.validated
            && constraint
                .definition
                .contains(&format!("({} IS NOT NULL)", plain(table)))
    });
    if table.tenant_not_null == Some(false) && !checked {
        found.push(Finding::new(
            "MT009",
            object.as_str(),
            format!("{} may be null", plain(table)),
            format!("alter table {quoted_table} alter column {column} set not null"),
        ));
    }
    if table.tenant_has_default == Some(false) {
        found.push(Finding::new(
            "MT011",
            object.as_str(),
            format!("{} has no default", plain(table)),
            format!("alter table {quoted_table} alter column {column} set default <the context function>()"),
        ));
    }
    if table.tenant_updatable {
        let app = roles(subject);
        found.push(Finding::new(
            "MT012",
            object,
            format!("the application role may update {}", plain(table)),
            format!("revoke update on {quoted_table} from {app}; grant update (<the other columns>) on {quoted_table} to {app}"),
        ));
    }
}

fn plain(table: &Relation) -> &str {
    table.tenant_column.as_deref().unwrap_or_default()
}

/// What no application role can reach is worth knowing only.
fn reached(finding: Finding, table: &Relation) -> Finding {
    let weakness = Weakness::Table { relation: table.oid };
    if table.is_reached() {
        finding.usable_by(weakness)
    } else {
        finding.at(Severity::Info)
    }
}

fn other_table(catalog: &Catalog, subject: &Subject, table: &Relation, found: &mut Vec<Finding>) {
    if table.row_security || table.is_child() || !table.is_reached() {
        return;
    }
    let (quoted_table, app) = (quoted(table), roles(subject));
    let parent = catalog
        .constraints
        .iter()
        .filter(|constraint| constraint.kind == 'f' && constraint.relation == table.oid)
        .filter_map(|constraint| catalog.relations.get(&constraint.referenced))
        .find(|parent| parent.tenant_column.is_some());
    if let Some(parent) = parent {
        found.push(
            Finding::new(
                "MT013",
                table.object(),
                format!(
                    "its rows belong to rows of {}, and every tenant reads them",
                    parent.object()
                ),
                format!("revoke all on {quoted_table} from {app}; then add the tenant column and isolate the table"),
            )
            .usable_by(Weakness::Table { relation: table.oid }),
        );
    } else if table.is_writable() {
        found.push(Finding::new(
            "MT008",
            table.object(),
            "it has no tenant column, and the application role may write it",
            format!("revoke insert, update, delete on {quoted_table} from {app}"),
        ));
    } else if table.may_select {
        found.push(Finding::new(
            "MT007",
            table.object(),
            "it has no tenant column, and the application role may read it",
            format!("revoke select on {quoted_table} from {app}, unless it is a reference table"),
        ));
    }
}

fn protection(catalog: &Catalog, table: &Relation, found: &mut Vec<Finding>) {
    let (policies, quoted_table) = (catalog.policies_of(table.oid), quoted(table));
    if !table.row_security && !policies.is_empty() {
        let finding = Finding::new(
            "MT002",
            table.object(),
            format!("it has {} policies, and row level security is off", policies.len()),
            format!(
                "alter table {quoted_table} enable row level security; alter table {quoted_table} force row level security"
            ),
        );
        found.push(reached(finding, table));
    }
    if table.row_security && !table.forced {
        let finding = Finding::new(
            "MT003",
            table.object(),
            format!("its owner {} is not bound", table.owner_name),
            format!("alter table {quoted_table} force row level security"),
        );
        let is_owner = catalog.facts.acts.contains(&table.owner);
        found.push(if is_owner && table.tenant_column.is_some() {
            finding.usable_by(Weakness::Owner {
                relation: table.oid,
                owner: table.owner_name.clone(),
            })
        } else {
            finding.at(Severity::Error)
        });
    }
    if table.row_security && !table.is_child() && !policies.iter().any(|policy| policy.permissive) {
        let (id, message) = match policies {
            [] => ("MT004", "it has no policy"),
            _ => ("MT005", "it has restrictive policies only"),
        };
        found.push(Finding::new(
            id,
            table.object(),
            message,
            format!("create policy isolation on {quoted_table} using (<tenant column> = (select <the context>))"),
        ));
    }
}

fn children(catalog: &Catalog, subject: &Subject, child: &Relation, found: &mut Vec<Finding>) {
    if child.row_security || !child.is_reached() {
        return;
    }
    let protected = ancestors(catalog, child).into_iter().find(|parent| parent.row_security);
    let Some(parent) = protected else { return };
    let quoted_child = quoted(child);
    found.push(
        Finding::new(
            "MT006",
            child.object(),
            format!(
                "the policies of {} do not apply to it, and the application role has rights on it",
                parent.object()
            ),
            format!("revoke all on {quoted_child} from {}", roles(subject)),
        )
        .usable_by(Weakness::Table { relation: child.oid }),
    );
}

fn ancestors<'c>(catalog: &'c Catalog, table: &Relation) -> Vec<&'c Relation> {
    let mut found: Vec<&Relation> = Vec::new();
    let mut open = table.parents.clone();
    while let Some(oid) = open.pop() {
        if let Some(parent) = catalog
            .relations
            .get(&oid)
            .filter(|parent| found.iter().all(|seen| seen.oid != parent.oid))
        {
            open.extend(&parent.parents);
            found.push(parent);
        }
    }
    found
}

fn grants(catalog: &Catalog, subject: &Subject, table: &Relation, found: &mut Vec<Finding>) {
    let (quoted_table, app) = (quoted(table), roles(subject));
    let more: Vec<&str> = [
        (table.may_truncate, "truncate"),
        (table.may_reference, "references"),
        (table.may_trigger, "trigger"),
    ]
    .into_iter()
    .filter_map(|(may, right)| may.then_some(right))
    .collect();
    // An owner has them all, which is said of the role.
    if !more.is_empty() && !catalog.facts.acts.contains(&table.owner) {
        let finding = Finding::new(
            "MT050",
            table.object(),
            format!("the application role has {}", more.join(", ")),
            format!("revoke {} on {quoted_table} from public, {app}", more.join(", ")),
        );
        found.push(if table.may_truncate && table.tenant_column.is_some() {
            finding.usable_by(Weakness::Truncate { relation: table.oid })
        } else {
            finding.at(Severity::Error)
        });
    }
    if table.tenant_column.is_some() && !table.of_public.is_empty() {
        found.push(Finding::new(
            "MT051",
            table.object(),
            format!("PUBLIC has {}", table.of_public.join(", ").to_lowercase()),
            format!("revoke all on {quoted_table} from public"),
        ));
    }
    for column in &table.counted {
        found.push(Finding::new(
            "MT088",
            format!("{}.{column}", table.object()),
            "it counts over all tenants",
            format!(
                "alter table {quoted_table} add column {} uuid default gen_random_uuid()",
                name(&format!("{column}_new"))
            ),
        ));
    }
}

fn types(catalog: &Catalog, found: &mut Vec<Finding>) {
    let mut uses: BTreeMap<&str, Vec<&Relation>> = BTreeMap::new();
    for table in catalog.tenant_tables().filter(|table| !table.is_child()) {
        if let Some(of) = &table.tenant_type {
            uses.entry(of).or_default().push(table);
        }
    }
    let Some(usual) = uses
        .iter()
        .max_by_key(|(_, tables)| tables.len())
        .map(|(of, _)| (*of).to_owned())
    else {
        return;
    };
    for (of, tables) in uses.iter().filter(|(of, _)| **of != usual) {
        found.extend(tables.iter().map(|table| {
            let column = name(plain(table));
            Finding::new(
                "MT010",
                table.object(),
                format!("{} is {of}, elsewhere {usual}", plain(table)),
                format!(
                    "alter table {} alter column {column} type {usual} using {column}::{usual}",
                    quoted(table)
                ),
            )
        }));
    }
}

fn sequences(catalog: &Catalog, subject: &Subject, found: &mut Vec<Finding>) {
    for sequence in catalog
        .relations
        .values()
        .filter(|sequence| sequence.kind == 'S' && !sequence.of_extension)
    {
        let rights: Vec<&str> = [(sequence.may_select, "select"), (sequence.may_update, "update")]
            .into_iter()
            .filter_map(|(may, right)| may.then_some(right))
            .collect();
        if !rights.is_empty() {
            let (quoted_sequence, app) = (quoted(sequence), roles(subject));
            found.push(Finding::new(
                "MT057",
                sequence.object(),
                format!("the application role has {} on it", rights.join(", ")),
                format!(
                    "revoke all on sequence {quoted_sequence} from public, {app}; grant usage on sequence {quoted_sequence} to {app}"
                ),
            ));
        }
    }
}
