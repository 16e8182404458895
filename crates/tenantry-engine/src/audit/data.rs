//! Rows: of tenants that are not there, and with parents of another tenant.

use std::collections::BTreeMap;

use tokio_postgres::GenericClient;

use super::{
    AuditError, Finding,
    catalog::{Catalog, Relation},
    family,
};
use crate::sql_error::{Doing, SqlError};

pub(super) async fn find(client: &impl GenericClient, catalog: &Catalog) -> Result<Vec<Finding>, AuditError> {
    let mut found = orphans(client, catalog).await?;
    found.extend(foreign_parents(client, catalog).await?);
    Ok(found)
}

/// The table and column that say which tenants there are: the fence of a database of ours, else what most tenant columns
/// refer to.
async fn registry(client: &impl GenericClient, catalog: &Catalog) -> Result<Option<(String, String)>, SqlError> {
    let row = client
        .query_one(
            "select to_regclass('tenantry_private.fence') is not null
                and has_table_privilege(to_regclass('tenantry_private.fence'), 'select')",
            &[],
        )
        .await
        .doing("look for the fence")?;
    if row.get::<_, Option<bool>>(0) == Some(true) {
        return Ok(Some(("tenantry_private.fence".to_owned(), "tenant".to_owned())));
    }
    let mut referred: BTreeMap<(i64, i32), usize> = BTreeMap::new();
    for constraint in catalog.constraints.iter().filter(|constraint| constraint.kind == 'f') {
        let of_child = catalog
            .relations
            .get(&constraint.relation)
            .and_then(|table| table.tenant_number);
        if let (Some(column), [key], [referenced]) = (
            of_child,
            constraint.key.as_slice(),
            constraint.referenced_key.as_slice(),
        ) && *key == column
        {
            *referred.entry((constraint.referenced, *referenced)).or_default() += 1;
        }
    }
    let Some(((oid, number), _)) = referred.into_iter().max_by_key(|(_, times)| *times) else {
        return Ok(None);
    };
    let Some(table) = catalog.relations.get(&oid) else {
        return Ok(None);
    };
    let column = column_name(client, oid, number).await?;
    Ok(Some((family::quoted(table), family::name(&column))))
}

async fn column_name(client: &impl GenericClient, relation: i64, number: i32) -> Result<String, SqlError> {
    let row = client
        .query_one(
            "select attname::text from pg_attribute where attrelid = $1::int8::oid and attnum = $2::int4",
            &[&relation, &number],
        )
        .await
        .doing("read a column's name")?;
    Ok(row.get(0))
}

async fn orphans(client: &impl GenericClient, catalog: &Catalog) -> Result<Vec<Finding>, AuditError> {
    let Some((tenants, key)) = registry(client, catalog).await? else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for table in catalog.tenant_tables().filter(|table| !table.is_child()) {
        let (quoted, column) = (family::quoted(table), tenant_column(table));
        // From one tenant to the next by the index that the tenant column leads: not a look at every row.
        let statement = format!(
            "with recursive t (c) as (
               (select {column} from {quoted} order by {column} limit 1)
               union all
               select (select x.{column} from {quoted} x where x.{column} > t.c order by x.{column} limit 1) from t where t.c is not null)
             select count(*), min(c::text) from t where c is not null and not exists (select from {tenants} r where r.{key} = t.c)"
        );
        let row = client
            .query_one(&statement, &[])
            .await
            .doing("look for rows without a tenant")?;
        let (count, first): (i64, Option<String>) = (row.get(0), row.get(1));
        if count > 0 {
            let first =
                tenantry_sql::Literal::new(first.unwrap_or_default()).expect("PostgreSQL's texts hold no zero byte");
            found.push(Finding::new(
                "MT100",
                table.object(),
                format!("it holds rows of {count} tenants that {tenants} does not know, {first} first"),
                format!("delete from {quoted} where {column} = {first}"),
            ));
        }
    }
    Ok(found)
}

fn tenant_column(table: &Relation) -> String {
    family::name(table.tenant_column.as_deref().unwrap_or_default())
}

async fn foreign_parents(client: &impl GenericClient, catalog: &Catalog) -> Result<Vec<Finding>, AuditError> {
    let mut found = Vec::new();
    for constraint in catalog
        .constraints
        .iter()
        .filter(|constraint| constraint.kind == 'f' && !constraint.inherited)
    {
        let tables = (
            catalog.relations.get(&constraint.relation),
            catalog.relations.get(&constraint.referenced),
        );
        let (Some(child), Some(parent)) = tables else { continue };
        let (Some(of_child), Some(of_parent)) = (child.tenant_number, parent.tenant_number) else {
            continue;
        };
        let holds = constraint
            .key
            .iter()
            .zip(&constraint.referenced_key)
            .any(|pair| pair == (&of_child, &of_parent));
        if holds || constraint.key == [of_child] {
            continue;
        }
        let mut on = Vec::new();
        for (key, referenced) in constraint.key.iter().zip(&constraint.referenced_key) {
            let key = family::name(&column_name(client, child.oid, *key).await?);
            let referenced = family::name(&column_name(client, parent.oid, *referenced).await?);
            on.push(format!("c.{key} = p.{referenced}"));
        }
        let statement = format!(
            "select count(*) from {} c join {} p on {} where c.{} <> p.{}",
            family::quoted(child),
            family::quoted(parent),
            on.join(" and "),
            tenant_column(child),
            tenant_column(parent)
        );
        let row = client
            .query_one(&statement, &[])
            .await
            .doing("look for parents of another tenant")?;
        let count: i64 = row.get(0);
        if count > 0 {
            found.push(Finding::new(
                "MT101",
                format!("{}.{}", child.object(), constraint.name),
                format!("{count} rows refer to rows of another tenant in {}", parent.object()),
                statement.replacen("count(*)", "c.*", 1),
            ));
        }
    }
    Ok(found)
}
