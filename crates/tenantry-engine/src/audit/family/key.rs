//! Keys and indexes.

use super::{name, quoted};
use crate::audit::{
    Finding, Severity,
    catalog::{Catalog, Constraint, Index, Relation},
    prove::Weakness,
};

pub(super) fn find(catalog: &Catalog) -> Vec<Finding> {
    let mut found = Vec::new();
    for index in &catalog.indexes {
        let Some(table) = catalog.relations.get(&index.relation) else {
            continue;
        };
        // A partition's indexes are its parent's; what nobody reaches tells nobody anything.
        if let Some(tenant) = table.tenant_number
            && !table.is_partition
            && table.is_reached()
        {
            unique(table, tenant, index, &mut found);
            shape(table, tenant, index, &mut found);
        }
    }
    for table in catalog
        .tenant_tables()
        .filter(|table| !table.is_child() && table.is_reached())
    {
        let led = catalog
            .indexes
            .iter()
            .any(|index| index.relation == table.oid && index.key.first().copied() == table.tenant_number);
        if !led {
            let column = name(table.tenant_column.as_deref().unwrap_or_default());
            found.push(Finding::new(
                "MT085",
                table.object(),
                "no index begins with the tenant column",
                format!("create index on {} ({column})", quoted(table)),
            ));
        }
    }
    for constraint in catalog
        .constraints
        .iter()
        .filter(|constraint| constraint.kind == 'f' && !constraint.inherited)
    {
        foreign(catalog, constraint, &mut found);
    }
    found
}

fn unique(table: &Relation, tenant: i32, index: &Index, found: &mut Vec<Finding>) {
    let scoped = index.key.contains(&tenant)
        || index
            .expressions
            .as_deref()
            .is_some_and(|text| text.contains(table.tenant_column.as_deref().unwrap_or_default()));
    if scoped || !(index.is_unique || index.is_exclusion) || !(table.may_insert || table.may_update) {
        return;
    }
    let id = match index {
        Index { is_exclusion: true, .. } => "MT082",
        Index { is_primary: true, .. } => "MT081",
        _ => "MT080",
    };
    let (called, mend) = match &index.constraint_name {
        Some(constraint) => (
            constraint,
            format!("alter table {} drop constraint {}", quoted(table), name(constraint)),
        ),
        None => (
            &index.name,
            format!("drop index {}.{}", name(&table.schema), name(&index.name)),
        ),
    };
    let finding = Finding::new(
        id,
        format!("{}.{called}", table.object()),
        "the tenant column is not in it",
        format!(
            "{mend}; then make it again with {} in it",
            table.tenant_column.as_deref().unwrap_or_default()
        ),
    );
    found.push(if index.all_uuid {
        finding.at(Severity::Info)
    } else {
        finding
    });
}

fn shape(table: &Relation, tenant: i32, index: &Index, found: &mut Vec<Finding>) {
    let object = format!("{}.{}", table.object(), index.name);
    let is_tree = matches!(index.method.as_str(), "btree" | "hash");
    if is_tree
        && index.key.first() != Some(&tenant)
        && !index.all_uuid
        && !index.is_unique
        && !index.is_exclusion
        && table.may_select
    {
        found.push(Finding::new(
            "MT086",
            object.as_str(),
            "it does not begin with the tenant column",
            format!(
                "drop index {}.{}; then make it again, led by the tenant column",
                name(&table.schema),
                name(&index.name)
            ),
        ));
    }
    if table.row_security && !index.leakproof {
        found.push(Finding::new(
            "MT087",
            object,
            format!("the operators of its {} index are not leakproof", index.method),
            "lead it with the tenant column, or index an expression",
        ));
    }
}

fn foreign(catalog: &Catalog, constraint: &Constraint, found: &mut Vec<Finding>) {
    let tables = (
        catalog.relations.get(&constraint.relation),
        catalog.relations.get(&constraint.referenced),
    );
    let (Some(child), Some(parent)) = tables else { return };
    let (Some(of_child), Some(of_parent)) = (child.tenant_number, parent.tenant_number) else {
        return;
    };
    let holds = constraint
        .key
        .iter()
        .zip(&constraint.referenced_key)
        .any(|pair| pair == (&of_child, &of_parent));
    // The key of a table of tenants is what the tenant column itself refers to.
    let is_registry = constraint.key == [of_child];
    if holds || is_registry || !(child.is_writable() || parent.is_writable()) {
        return;
    }
    let object = format!("{}.{}", child.object(), constraint.name);
    let mend = format!(
        "alter table {} drop constraint {}, add foreign key ({}, …) references {} ({}, …)",
        quoted(child),
        name(&constraint.name),
        name(child.tenant_column.as_deref().unwrap_or_default()),
        quoted(parent),
        name(parent.tenant_column.as_deref().unwrap_or_default()),
    );
    let reaches = |action: char| matches!(action, 'c' | 'n' | 'd');
    let (by_delete, by_update) = (
        reaches(constraint.on_delete) && parent.may_delete,
        reaches(constraint.on_update) && parent.may_update,
    );
    if by_delete || by_update {
        found.push(
            Finding::new("MT084", object.as_str(), constraint.definition.as_str(), mend.as_str()).usable_by(
                Weakness::Cascades {
                    child: child.oid,
                    parent: parent.oid,
                    key: constraint.key.clone(),
                    referenced_key: constraint.referenced_key.clone(),
                    by_delete,
                },
            ),
        );
    }
    found.push(
        Finding::new("MT083", object, constraint.definition.as_str(), mend).usable_by(Weakness::Refers {
            child: child.oid,
            parent: parent.oid,
            key: constraint.key.clone(),
            referenced_key: constraint.referenced_key.clone(),
        }),
    );
}
