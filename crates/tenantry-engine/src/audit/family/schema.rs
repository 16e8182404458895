//! Schemas of one tenant each: alike, and used by nobody else's role.

use std::collections::BTreeMap;

use super::name;
use crate::audit::{Finding, Subject, catalog::Catalog};

pub(super) fn find(catalog: &Catalog, subject: &Subject) -> Vec<Finding> {
    let Some(pattern) = &subject.tenant_schemas else {
        return Vec::new();
    };
    drift(catalog, |schema| is_like(schema, pattern))
}

/// Tenants' schemas whose tables are not those of most others.
pub(in crate::audit) fn drift(catalog: &Catalog, is_tenants: impl Fn(&str) -> bool) -> Vec<Finding> {
    let mut shapes: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for relation in catalog
        .relations
        .values()
        .filter(|relation| is_tenants(&relation.schema))
    {
        let policies: Vec<String> = catalog
            .policies_of(relation.oid)
            .iter()
            .map(|policy| {
                format!(
                    "{} {} {:?} {:?}",
                    policy.name, policy.command, policy.using_text, policy.check_text
                )
            })
            .collect();
        let mut columns: Vec<String> = catalog.columns.get(&relation.oid).cloned().unwrap_or_default();
        columns.sort();
        shapes.entry(&relation.schema).or_default().push(format!(
            "{} {} {} {} {columns:?} {policies:?}",
            relation.kind, relation.name, relation.row_security, relation.forced
        ));
    }
    let mut groups: BTreeMap<Vec<String>, Vec<&str>> = BTreeMap::new();
    for (schema, mut shape) in shapes {
        shape.sort();
        // Policies name their schema's own objects.
        let shape = shape
            .into_iter()
            .map(|line| line.replace(&format!("{schema}."), ""))
            .collect();
        groups.entry(shape).or_default().push(schema);
    }
    let Some((usual, _)) = groups.iter().max_by_key(|(_, schemas)| schemas.len()) else {
        return Vec::new();
    };
    let usual = usual.clone();
    let differing = groups.iter().filter(|(shape, _)| **shape != usual);
    differing
        .flat_map(|(shape, schemas)| {
            let different = shape
                .iter()
                .filter(|line| !usual.contains(line))
                .chain(usual.iter().filter(|line| !shape.contains(line)));
            let named: std::collections::BTreeSet<&str> = different.filter_map(|line| line.split(' ').nth(1)).collect();
            let named: Vec<&str> = named.into_iter().collect();
            schemas.iter().map(move |schema| {
                Finding::new(
                    "MT103",
                    *schema,
                    format!("it differs from the others in {}", named.join(", ")),
                    format!("migrate it again, or drop what was made by hand in {}", name(schema)),
                )
            })
        })
        .collect()
}

/// `like` of SQL: % and _.
fn is_like(text: &str, pattern: &str) -> bool {
    let (text, pattern): (Vec<char>, Vec<char>) = (text.chars().collect(), pattern.chars().collect());
    let mut reached = vec![false; text.len() + 1];
    reached[0] = true;
    for sign in pattern {
        if sign == '%' {
            for at in 1..reached.len() {
                reached[at] |= reached[at - 1];
            }
        } else {
            for at in (1..reached.len()).rev() {
                reached[at] = reached[at - 1] && (sign == '_' || sign == text[at - 1]);
            }
            reached[0] = false;
        }
    }
    reached[text.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_those_of_sql() {
        assert!(is_like("org_17", "org%") && is_like("org_17", "%") && is_like("ab", "a_"));
        assert!(!is_like("xorg", "org%") && !is_like("abc", "a_") && !is_like("", "_"));
    }
}
