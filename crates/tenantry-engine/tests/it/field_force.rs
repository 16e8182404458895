//! A rich domain: forty tables with 75 references, trees and cycles among them. Each reference stays within its tenant.

use tenantry_core::TenantId;

use crate::support::{World, tenant};

const TABLES: usize = 40;
const REFERENCES: usize = 75;

/// A reference of one table to another, by one column besides the tenant's.
struct Reference {
    table: String,
    column: String,
    to: String,
}

async fn references(world: &World) -> Vec<Reference> {
    let sql = "select c.conrelid::regclass::text, a.attname::text, c.confrelid::regclass::text
                 from pg_constraint c
                 join pg_attribute a on a.attrelid = c.conrelid and a.attnum = any (c.conkey) and a.attname <> 'tenant_id'
                where c.contype = 'f' and c.connamespace = 'app'::regnamespace
                order by 1, 2";
    let rows = world.admin.query(sql, &[]).await.unwrap();
    let name = |text: String| text.trim_start_matches("app.").to_owned();
    rows.into_iter()
        .map(|row| Reference {
            table: name(row.get(0)),
            column: row.get(1),
            to: name(row.get(2)),
        })
        .collect()
}

/// A row in each table, all of them with this number, which refers to its like in every other.
async fn fill(world: &World, tenant: TenantId, tables: &[String], references: &[Reference], id: i32) {
    let mut sql = String::new();
    for table in tables {
        let columns: Vec<&str> = references
            .iter()
            .filter(|reference| reference.table == *table)
            .map(|reference| reference.column.as_str())
            .collect();
        let names: String = columns.iter().map(|column| format!(", \"{column}\"")).collect();
        let values: String = columns.iter().map(|_| format!(", {id}")).collect();
        sql += &format!("insert into \"{table}\" (id{names}) values ({id}{values});\n");
    }
    world.as_tenant(tenant, &sql).await.unwrap();
}

#[tokio::test]
async fn forty_tables_with_trees_and_cycles_keep_every_reference_within_its_tenant() {
    let world = World::new().await;
    let derived = world
        .migrate(&[("0001_field_force.sql", include_str!("field_force.sql"))])
        .await;
    let tables: Vec<String> = derived.tables.iter().map(|table| table.name.clone()).collect();
    assert_eq!(tables.len(), TABLES);
    let held = "select count(*) from pg_class where relnamespace = 'app'::regnamespace and relkind = 'r'
                   and relrowsecurity and relforcerowsecurity";
    assert_eq!(world.all(held).await, TABLES.to_string());
    let references = references(&world).await;
    assert_eq!(
        references.len(),
        REFERENCES,
        "each has the tenant and one column of its own"
    );

    // In the order of the file: what refers to a later table may, until the commit.
    let mut in_order: Vec<(usize, &String)> = tables
        .iter()
        .map(|table| {
            let begin = format!("create table {table} (");
            (include_str!("field_force.sql").find(&begin).unwrap(), table)
        })
        .collect();
    in_order.sort_unstable();
    let in_order: Vec<String> = in_order.into_iter().map(|(_, table)| table.clone()).collect();
    let (ours, theirs) = (tenant(1), tenant(2));
    fill(&world, ours, &in_order, &references, 1).await;
    fill(&world, theirs, &in_order, &references, 2).await;
    // The same numbers, the same unique texts: nobody is in anybody's way.
    fill(&world, tenant(3), &in_order, &references, 1).await;

    for Reference { table, column, to } in &references {
        let refer = |id: i32| format!("update \"{table}\" set \"{column}\" = {id}; set constraints all immediate");
        let refused = world.as_tenant(ours, &refer(2)).await.unwrap_err();
        assert!(refused.starts_with("23503"), "{table}.{column} to {to}: {refused}");
        world.as_tenant(ours, &refer(1)).await.unwrap();
    }
    for table in &tables {
        assert_eq!(
            world
                .ask(ours, &format!("select string_agg(id::text, ',') from \"{table}\""))
                .await,
            "1"
        );
        assert_eq!(
            world
                .ask(theirs, &format!("select string_agg(id::text, ',') from \"{table}\""))
                .await,
            "2"
        );
    }
    // A cascade stays at home as well: `hospital` 1 goes with its departments, and tenant 3 keeps its own.
    world
        .as_tenant(
            ours,
            "update doctor set department = null; update customer_order set hospital = null;
             delete from hospital",
        )
        .await
        .unwrap();
    assert_eq!(world.ask(ours, "select count(*) from department").await, "0");
    assert_eq!(world.ask(tenant(3), "select count(*) from department").await, "1");
}
