//! Two structures against each other. An object that is missing, or one too many, is one difference with all its details.

use serde_json::Value;
use tenantry_core::TenantId;

use super::{
    difference::{Change, Difference},
    fact::{Class, Fact, Key, Structure},
    statement::{Names, alter, describe, make, remove},
};
use crate::migrate::Target;

/// What has to be done to the first to make it the second, in an order that works.
#[must_use]
pub fn compare(actual: &Structure, expected: &Structure, target: &Target, tenant: Option<TenantId>) -> Vec<Difference> {
    let names = &Names { target, tenant };
    let mut differences = Vec::new();
    for (key, wanted) in &expected.facts {
        match actual.facts.get(key) {
            Some(found) if found == wanted => {}
            Some(found) => differences.push(regranted(changed(key, found, wanted, names), key, expected, names)),
            None if key.fact == Fact::Itself || has_object(actual, key) => {
                differences.push(missing(key, wanted, expected, names));
            }
            // The object's own difference tells of it.
            None => {}
        }
    }
    for (key, found) in actual.facts.iter().rev() {
        let told = key.fact != Fact::Itself && !has_object(expected, key);
        // The comment on what is one too many is nobody's loss.
        if !expected.has(key) && !told && !key.goes_with_its_owner(actual, expected) {
            differences.push(regranted(extra(key, found, names), key, expected, names));
        }
    }
    differences
}

fn has_object(structure: &Structure, key: &Key) -> bool {
    key.class == Class::Schema || structure.has(&key.of_object())
}

fn changed(key: &Key, found: &Value, wanted: &Value, names: &Names<'_>) -> Difference {
    let (sql, remedy) = alter(key, found, wanted, names);
    Difference {
        object: describe(key),
        change: Change::Changed,
        sql,
        remedy,
    }
}

fn missing(key: &Key, wanted: &Value, expected: &Structure, names: &Names<'_>) -> Difference {
    let (mut sql, remedy) = make(key, wanted, expected, names);
    if key.fact == Fact::Itself {
        for (detail, wanted) in expected.details(key) {
            // Columns and the owner came with the object.
            if !matches!(detail.fact, Fact::Column | Fact::Owner) {
                sql.extend(make(detail, wanted, expected, names).0);
            }
        }
    }
    Difference {
        object: describe(key),
        change: Change::Missing,
        sql,
        remedy,
    }
}

fn extra(key: &Key, found: &Value, names: &Names<'_>) -> Difference {
    let (sql, remedy) = remove(key, found, names);
    Difference {
        object: describe(key),
        change: Change::Extra,
        sql,
        remedy,
    }
}

/// Taking a right to a table takes the right to its columns as well: those that should be there are given again at once.
fn regranted(mut difference: Difference, key: &Key, expected: &Structure, names: &Names<'_>) -> Difference {
    if key.fact == Fact::Grant && difference.sql.iter().any(|sql| sql.starts_with("revoke")) {
        let of_role = format!("{} ", key.name);
        let columns = expected
            .details(key)
            .filter(|(detail, _)| detail.fact == Fact::ColumnGrant && detail.name.starts_with(&of_role));
        for (detail, wanted) in columns {
            difference.sql.extend(make(detail, wanted, expected, names).0);
        }
    }
    difference
}
