//! Views, functions, triggers and other code that runs as somebody else.

use std::collections::BTreeSet;

use super::{name, quoted};
use crate::audit::{
    Finding, Severity,
    catalog::{Catalog, Function, Relation},
    prove::Weakness,
};

pub(super) fn find(catalog: &Catalog) -> Vec<Finding> {
    let mut found = Vec::new();
    for relation in catalog.relations.values().filter(|relation| !relation.of_extension) {
        match relation.kind {
            'v' if relation.is_reached() => view(catalog, relation, &mut found),
            'm' if relation.may_select => materialized(catalog, relation, &mut found),
            'f' if relation.is_reached() => found.push(Finding::new(
                "MT069",
                relation.object(),
                "the application role may use it, and row security can't be put on it",
                format!("revoke all on {} from public", quoted(relation)),
            )),
            _ => {}
        }
    }
    for function in catalog
        .functions
        .values()
        .filter(|function| !function.of_extension && !is_mechanism(function))
    {
        definer(catalog, function, &mut found);
        settings(catalog, function, &mut found);
        if function.leakproof {
            found.push(Finding::new(
                "MT065",
                function.signature.as_str(),
                "it says leakproof",
                format!("alter function {} not leakproof", function.signature),
            ));
        }
    }
    triggers(catalog, &mut found);
    found
}

/// Ours is compared as a whole (MT110), and stands in schemas where nobody else may make anything.
fn is_mechanism(function: &Function) -> bool {
    matches!(function.schema.as_str(), "tenantry" | "tenantry_private")
}

/// The tables that a view reads, each with the role that it is read as. An invoker's view is read as whoever asks, also where
/// it stands in a view of somebody else's.
fn read_as(catalog: &Catalog, view: &Relation, seen: &mut BTreeSet<(i64, Option<i64>)>) -> Vec<(i64, Option<i64>)> {
    let acting = (!view.security_invoker).then_some(view.owner);
    let mut found = Vec::new();
    for dependency in catalog
        .dependencies
        .iter()
        .filter(|dependency| dependency.view == view.oid)
    {
        if !seen.insert((dependency.relation, acting)) {
            continue;
        }
        match catalog.relations.get(&dependency.relation) {
            Some(inner) if inner.kind == 'v' => found.extend(read_as(catalog, inner, seen)),
            Some(inner) => found.push((inner.oid, acting)),
            None => {}
        }
    }
    found
}

fn view(catalog: &Catalog, view: &Relation, found: &mut Vec<Finding>) {
    let open = read_as(catalog, view, &mut BTreeSet::new())
        .into_iter()
        .find_map(|(table, acting)| {
            let (relation, acting) = (catalog.relations.get(&table)?, acting?);
            let table = table_of_rows(catalog, relation)?;
            // What was materialized is held by no policy any more.
            let open = relation.kind == 'm' || !catalog.binds(table, acting);
            (open && !catalog.facts.acts.contains(&acting)).then_some(table)
        });
    if let Some(table) = open {
        found.push(
            Finding::new(
                "MT060",
                view.object(),
                format!(
                    "it reads {} as {}, whom no policy binds",
                    table.object(),
                    view.owner_name
                ),
                format!("alter view {} set (security_invoker = true)", quoted(view)),
            )
            .usable_by(Weakness::View {
                view: view.oid,
                table: table.oid,
            }),
        );
    }
}

/// The tenant table whose rows stand in a table or materialized view.
fn table_of_rows<'c>(catalog: &'c Catalog, relation: &'c Relation) -> Option<&'c Relation> {
    match relation.kind {
        'm' => read_as(catalog, relation, &mut BTreeSet::new())
            .into_iter()
            .filter_map(|(source, _)| catalog.relations.get(&source))
            .find_map(|source| table_of_rows(catalog, source)),
        _ if relation.is_table() && (relation.tenant_column.is_some() || relation.row_security) => Some(relation),
        _ => None,
    }
}

fn materialized(catalog: &Catalog, view: &Relation, found: &mut Vec<Finding>) {
    if let Some(table) = table_of_rows(catalog, view) {
        found.push(
            Finding::new(
                "MT061",
                view.object(),
                format!("it holds rows of {}", table.object()),
                format!("revoke all on {} from public", quoted(view)),
            )
            .usable_by(Weakness::Materialized {
                view: view.oid,
                table: table.oid,
            }),
        );
    }
}

/// Whether the body names a tenant table that does not bind the function's owner, and not the tenant column.
fn reads_past<'c>(catalog: &'c Catalog, function: &Function) -> Option<&'c Relation> {
    let source = function.source.to_lowercase();
    let words: BTreeSet<&str> = source
        .split(|character: char| !character.is_alphanumeric() && character != '_')
        .collect();
    catalog.tenant_tables().find(|table| {
        words.contains(table.name.to_lowercase().as_str())
            && !catalog.binds(table, function.owner)
            && !table
                .tenant_column
                .as_ref()
                .is_some_and(|column| words.contains(column.as_str()))
    })
}

fn definer(catalog: &Catalog, function: &Function, found: &mut Vec<Finding>) {
    if !function.definer {
        return;
    }
    let signature = &function.signature;
    if function.callable && !function.is_trigger() && !catalog.is_bound_everywhere(function.owner) {
        let finding = Finding::new(
            "MT062",
            signature.as_str(),
            format!(
                "it runs as {}, whom no policy binds, and the application role may call it",
                function.owner_name
            ),
            format!("alter function {signature} security invoker"),
        );
        let past = reads_past(catalog, function).filter(|_| function.arguments == function.defaults);
        found.push(match past {
            Some(table) => finding.usable_by(Weakness::Calls {
                function: function.oid,
                table: table.oid,
            }),
            None => finding.at(Severity::Error),
        });
    }
    if !function.is_bound() {
        let finding = Finding::new(
            "MT063",
            signature.as_str(),
            "its caller's search path decides what its names mean",
            format!("alter function {signature} set search_path = pg_catalog, pg_temp"),
        );
        found.push(
            if function.callable && (catalog.facts.creates_functions() || catalog.facts.creates_temporary) {
                finding
            } else {
                finding.at(Severity::Error)
            },
        );
    }
    if let Some(path) = function.search_path()
        && !function.atomic
        && !is_empty(path)
        && !ends_in_temporary(path)
    {
        let finding = Finding::new(
            "MT064",
            signature.as_str(),
            format!("its search path is {path}"),
            format!("alter function {signature} set search_path = {path}, pg_temp"),
        );
        found.push(if catalog.facts.creates_temporary {
            finding
        } else {
            finding.at(Severity::Info)
        });
    }
    if function.callable && function.arguments > 0 && runs_text(&function.source) {
        found.push(Finding::new(
            "MT108",
            signature.as_str(),
            "it makes SQL or the name of a setting from text that it is given",
            format!("revoke execute on function {signature} from public"),
        ));
    }
}

fn is_empty(path: &str) -> bool {
    matches!(path.trim(), "" | "\"\"" | "''")
}

fn ends_in_temporary(path: &str) -> bool {
    path.rsplit(',')
        .next()
        .is_some_and(|last| last.trim().trim_matches('"') == "pg_temp")
}

/// `execute` of a text that is put together, and settings whose name is no constant.
fn runs_text(source: &str) -> bool {
    let source = source.to_lowercase();
    let executes = source.split(';').any(|statement| {
        statement.contains("execute ")
            && !statement.contains("execute function")
            && (statement.contains("||") || statement.contains("%s") || !statement.contains('\''))
    });
    let sets = source
        .match_indices("set_config(")
        .any(|(at, call)| !source[at + call.len()..].trim_start().starts_with('\''));
    executes || sets
}

fn settings(catalog: &Catalog, function: &Function, found: &mut Vec<Finding>) {
    let off = function.config.iter().find(|setting| {
        let setting = setting.to_lowercase();
        setting == "row_security=off" || setting.starts_with("session_replication_role=")
    });
    if let Some(setting) = off {
        let finding = Finding::new(
            "MT066",
            function.signature.as_str(),
            format!("it sets {setting}"),
            format!(
                "alter function {} reset {}",
                function.signature,
                setting.split('=').next().unwrap_or_default()
            ),
        );
        // For whom policies bind, switching them off is an error at run time and shows nothing.
        let shows = function.definer && !catalog.is_bound_everywhere(function.owner) || setting.starts_with("session");
        found.push(if shows { finding } else { finding.at(Severity::Warn) });
    }
}

fn triggers(catalog: &Catalog, found: &mut Vec<Finding>) {
    for trigger in &catalog.triggers {
        let Some(table) = catalog.relations.get(&trigger.relation) else {
            continue;
        };
        if table.tenant_column.is_none() && !trigger.rule || table.of_extension {
            continue;
        }
        if trigger.rule && table.tenant_column.is_some() {
            found.push(Finding::new(
                "MT068",
                format!("{}.{}", table.object(), trigger.name),
                "a rule rewrites statements on it",
                format!("drop rule {} on {}", name(&trigger.name), quoted(table)),
            ));
        }
        let Some(function) = catalog.functions.get(&trigger.function) else {
            continue;
        };
        if function.definer && !catalog.is_bound_everywhere(function.owner) {
            found.push(Finding::new(
                "MT067",
                format!("{}.{}", table.object(), trigger.name),
                format!(
                    "{} runs as {}, whom no policy binds",
                    function.signature, function.owner_name
                ),
                format!("alter function {} security invoker", function.signature),
            ));
        }
    }
}
