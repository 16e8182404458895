//! The policies of isolated tables, compared with what is made today.

use std::collections::BTreeMap;

use tenantry_sql::{POLICY_NAMES, Qualified, isolate_rows};
use tokio_postgres::Transaction;

use super::super::{
    AuditError, Finding,
    catalog::{Catalog, Policy, Relation},
};
use crate::{roles::Roles, sql_error::Doing};

/// What a policy is, without its name.
type Shape = (String, bool, Option<String>, Option<String>, String);

pub(super) async fn find(
    transaction: &Transaction<'_>,
    roles: &Roles,
    catalog: &Catalog,
) -> Result<Vec<Finding>, AuditError> {
    let expected = expected(transaction, roles).await?;
    let ours = |table: &&Relation| {
        table.tenant_column.as_deref() == Some(tenantry_sql::TENANT_COLUMN)
            && !table.is_child()
            && (table.schema == tenantry_core::SHARED_SCHEMA || super::is_own_schema(&table.schema))
    };
    Ok(catalog
        .tenant_tables()
        .filter(ours)
        .filter_map(|table| {
            let wrong = wrong(&expected, catalog.policies_of(table.oid));
            (!wrong.is_empty()).then(|| {
                Finding::new(
                    "MT114",
                    table.object(),
                    wrong.join(", "),
                    "isolate the table again by a migration",
                )
            })
        })
        .collect())
}

/// As PostgreSQL writes them, which is known from a table that is never committed.
async fn expected(transaction: &Transaction<'_>, roles: &Roles) -> Result<BTreeMap<String, Shape>, AuditError> {
    let table = Qualified::new(
        tenantry_core::SHARED_SCHEMA,
        format!("tenantry_audit_{:016x}", rand::random::<u64>()),
    )
    .expect("is a name");
    let owner = &roles.owner;
    let make = format!(
        "savepoint tenantry_audit_policies; set local role {owner}; create table {table} (tenant_id uuid not null, id uuid not null); {}",
        isolate_rows(&table).join("; ")
    );
    transaction.batch_execute(&make).await.doing("make the policies anew")?;
    let rows = transaction
        .query(
            "select p.polname::text, p.polcmd::text, p.polpermissive, pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid),
                    p.polroles::text
               from pg_policy p where p.polrelid = $1::text::regclass",
            &[&table.to_string()],
        )
        .await
        .doing("read the policies that were made")?;
    transaction
        .batch_execute("rollback to savepoint tenantry_audit_policies")
        .await
        .doing("go back to the savepoint")?;
    Ok(rows
        .iter()
        .map(|row| (row.get(0), (row.get(1), row.get(2), row.get(3), row.get(4), row.get(5))))
        .collect())
}

fn wrong(expected: &BTreeMap<String, Shape>, policies: &[Policy]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, shape) in expected {
        match policies.iter().find(|policy| policy.name == *name) {
            None => wrong.push(format!("the policy {name} is missing")),
            Some(policy) => {
                let roles: Vec<String> = policy.roles.iter().map(i64::to_string).collect();
                let found: Shape = (
                    policy.command.to_string(),
                    policy.permissive,
                    policy.using_text.clone(),
                    policy.check_text.clone(),
                    format!("{{{}}}", roles.join(",")),
                );
                if found != *shape {
                    wrong.push(format!("the policy {name} differs"));
                }
            }
        }
    }
    // A restrictive one more only takes away.
    for policy in policies
        .iter()
        .filter(|policy| policy.permissive && !POLICY_NAMES.contains(&policy.name.as_str()))
    {
        wrong.push(format!("the policy {} is not ours", policy.name));
    }
    wrong
}
