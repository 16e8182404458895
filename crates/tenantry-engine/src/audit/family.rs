//! The checks, a file per family. What can be said in one query stands in a query; the rest is Rust over what was read.

mod code;
mod key;
mod policy;
mod presence;
mod schema;

use tenantry_sql::{Identifier, Qualified};

pub(super) use self::schema::drift;
use super::{
    Finding, Subject,
    catalog::{Catalog, Relation},
    prove::Weakness,
};

/// Everything that is found in the catalogs.
pub(super) fn find(catalog: &Catalog, subject: &Subject) -> Vec<Finding> {
    let mut findings: Vec<Finding> = catalog.rows.iter().map(|row| of_row(catalog, row)).collect();
    findings.extend(presence::find(catalog, subject));
    findings.extend(policy::find(catalog, subject));
    findings.extend(code::find(catalog));
    findings.extend(key::find(catalog));
    findings.extend(schema::find(catalog, subject));
    findings
}

fn of_row(catalog: &Catalog, row: &super::catalog::Row) -> Finding {
    let mut finding = Finding::new(&row.id, row.object.as_str(), row.message.as_str(), row.mend.as_str());
    if let Some(severity) = row.severity {
        finding = finding.at(severity);
    }
    let role = row.object.clone();
    match row.id.as_str() {
        "MT040" | "MT041" => finding.usable_by(Weakness::Reads { role }),
        "MT042" => finding.usable_by(Weakness::Becomes {
            role,
            target: a_table_owner(catalog),
            grant_first: true,
        }),
        "MT043" => finding.usable_by(Weakness::Owns { role }),
        "MT044" => finding.usable_by(Weakness::Becomes {
            role,
            target: row.target.clone(),
            grant_first: false,
        }),
        "MT046" => finding.usable_by(Weakness::SetsCarrier {
            parameter: row.object.clone(),
        }),
        _ => finding,
    }
}

fn a_table_owner(catalog: &Catalog) -> Option<String> {
    catalog.tenant_tables().map(|table| table.owner_name.clone()).next()
}

/// A relation's name, quoted.
pub(super) fn quoted(relation: &Relation) -> String {
    Qualified::new(relation.schema.as_str(), relation.name.as_str())
        .expect("the catalogs hold no empty or overlong names")
        .to_string()
}

/// A name, quoted.
pub(super) fn name(name: &str) -> String {
    Identifier::new(name)
        .expect("the catalogs hold no empty or overlong names")
        .to_string()
}

/// The application roles with commas between them, quoted.
pub(super) fn roles(subject: &Subject) -> String {
    subject
        .app_roles
        .iter()
        .map(|role| name(role))
        .collect::<Vec<_>>()
        .join(", ")
}
