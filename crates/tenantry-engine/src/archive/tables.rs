//! A home's isolated tables: what stores values in them, and in which order they refer to each other.

use tokio_postgres::{Client, types::Oid};

use super::manifest::{Column, Reference, TableHead};
use crate::sql_error::{Doing, SqlError};

/// An isolated table where it stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Table {
    pub(super) oid: Oid,
    /// Rows of partitions are read through their table, and land in the right partition again.
    pub(super) partitioned: bool,
    pub(super) head: TableHead,
    pub(super) sequences: Vec<Sequence>,
}

/// A sequence that fills a column.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Sequence {
    pub(super) oid: Oid,
    pub(super) column: String,
    pub(super) ascending: bool,
}

/// The isolated tables of a schema, parents before those that refer to them. The search path says which types need no schema.
pub(super) async fn list(client: &Client, schema: &str) -> Result<Vec<Table>, SqlError> {
    let rows = client
        .query(
            "select c.oid, c.relname::text, c.relkind = 'p', a.attname::text,
                    pg_catalog.format_type(a.atttypid, a.atttypmod), a.attnotnull
               from pg_catalog.pg_class as c
               join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
               join pg_catalog.pg_attribute as t on t.attrelid = c.oid and t.attname = 'tenant_id' and not t.attisdropped
               left join pg_catalog.pg_attribute as a
                 on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated = '' and a.attname <> 'tenant_id'
              where n.nspname = $1 and c.relkind in ('r', 'p') and not c.relispartition
              order by c.relname collate \"C\", a.attnum",
            &[&schema],
        )
        .await
        .doing("list the isolated tables")?;
    let mut tables: Vec<Table> = Vec::new();
    for row in rows {
        let oid: Oid = row.get(0);
        if tables.last().is_none_or(|last| last.oid != oid) {
            tables.push(Table {
                oid,
                partitioned: row.get(2),
                head: TableHead {
                    name: row.get(1),
                    columns: Vec::new(),
                    key: Vec::new(),
                    sequences: Vec::new(),
                    references: None,
                },
                sequences: Vec::new(),
            });
        }
        if let (Some(table), Some(name)) = (tables.last_mut(), row.get(3)) {
            table.head.columns.push(Column {
                name,
                r#type: row.get(4),
                required: row.get(5),
            });
        }
    }
    read_keys(client, &mut tables).await?;
    read_sequences(client, &mut tables).await?;
    read_references(client, &mut tables).await?;
    let references = references(client, &tables).await?;
    Ok(in_order(tables, &references))
}

fn oids(tables: &[Table]) -> Vec<Oid> {
    tables.iter().map(|table| table.oid).collect()
}

async fn read_keys(client: &Client, tables: &mut [Table]) -> Result<(), SqlError> {
    let rows = client
        .query(
            "select k.conrelid, a.attname::text
               from pg_catalog.pg_constraint as k
              cross join lateral unnest(k.conkey) with ordinality as u (attnum, place)
               join pg_catalog.pg_attribute as a on a.attrelid = k.conrelid and a.attnum = u.attnum
              where k.contype = 'p' and k.conrelid = any ($1) and a.attname <> 'tenant_id'
              order by k.conrelid, u.place",
            &[&oids(tables)],
        )
        .await
        .doing("read the primary keys")?;
    for row in rows {
        let oid: Oid = row.get(0);
        if let Some(table) = tables.iter_mut().find(|table| table.oid == oid) {
            table.head.key.push(row.get(1));
        }
    }
    Ok(())
}

async fn read_sequences(client: &Client, tables: &mut [Table]) -> Result<(), SqlError> {
    let rows = client
        .query(
            "select a.attrelid, s.oid, a.attname::text, q.seqincrement > 0
               from pg_catalog.pg_class as s
               join pg_catalog.pg_sequence as q on q.seqrelid = s.oid
               join pg_catalog.pg_depend as d
                 on d.objid = s.oid and d.classid = 'pg_catalog.pg_class'::regclass and d.deptype in ('a', 'i')
               join pg_catalog.pg_attribute as a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid
              where s.relkind = 'S' and a.attrelid = any ($1) and a.attname <> 'tenant_id'
              order by a.attrelid, a.attnum",
            &[&oids(tables)],
        )
        .await
        .doing("read the sequences")?;
    for row in rows {
        let oid: Oid = row.get(0);
        if let Some(table) = tables.iter_mut().find(|table| table.oid == oid) {
            table.sequences.push(Sequence {
                oid: row.get(1),
                column: row.get(2),
                ascending: row.get(3),
            });
        }
    }
    Ok(())
}

/// Which columns refer to which. Every key between isolated tables has the tenant's column in front, of which nothing is to be said.
async fn read_references(client: &Client, tables: &mut [Table]) -> Result<(), SqlError> {
    let rows = client
        .query(
            "select k.conrelid, k.confrelid, a.attname::text, p.attname::text
               from pg_catalog.pg_constraint as k
              cross join lateral unnest(k.conkey, k.confkey) as u (child, parent)
               join pg_catalog.pg_attribute as a on a.attrelid = k.conrelid and a.attnum = u.child
               join pg_catalog.pg_attribute as p on p.attrelid = k.confrelid and p.attnum = u.parent
              where k.contype = 'f' and k.conparentid = 0 and k.conrelid = any ($1)
                and a.attname <> 'tenant_id' and p.attname <> 'tenant_id'",
            &[&oids(tables)],
        )
        .await
        .doing("read which columns refer to which")?;
    let mut found: Vec<Vec<Reference>> = vec![Vec::new(); tables.len()];
    for row in rows {
        let (child, parent): (Oid, Oid) = (row.get(0), row.get(1));
        let Some(at) = tables.iter().position(|table| table.oid == child) else {
            continue;
        };
        let parent = tables.iter().find(|table| table.oid == parent);
        found[at].push(Reference {
            column: row.get(2),
            table: parent.map(|table| table.head.name.clone()),
            to: row.get(3),
        });
    }
    for (table, mut references) in tables.iter_mut().zip(found) {
        // By name, so that two homes with the same keys say the same.
        references.sort();
        references.dedup();
        table.head.references = Some(references);
    }
    Ok(())
}

/// Which table refers to which.
async fn references(client: &Client, tables: &[Table]) -> Result<Vec<(Oid, Oid)>, SqlError> {
    let rows = client
        .query(
            "select distinct conrelid, confrelid from pg_catalog.pg_constraint
              where contype = 'f' and conparentid = 0 and conrelid = any ($1) and confrelid = any ($1) and conrelid <> confrelid",
            &[&oids(tables)],
        )
        .await
        .doing("read the foreign keys")?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Parents first; tables in a circle of foreign keys stay in the order of their names.
fn in_order(mut tables: Vec<Table>, references: &[(Oid, Oid)]) -> Vec<Table> {
    let mut ordered: Vec<Table> = Vec::with_capacity(tables.len());
    while !tables.is_empty() {
        let waits = |table: &Table| {
            let mut parents = references.iter().filter(|(child, _)| *child == table.oid);
            parents.any(|(_, parent)| tables.iter().any(|other| other.oid == *parent))
        };
        let next = tables.iter().position(|table| !waits(table)).unwrap_or(0);
        ordered.push(tables.remove(next));
    }
    ordered
}
