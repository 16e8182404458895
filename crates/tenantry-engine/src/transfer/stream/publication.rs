//! What a stream lets through: one tenant's rows of the isolated tables of one schema.

use tenantry_core::{InstallationId, OperationId, TenantId};
use tenantry_sql::{Literal, Qualified, TENANT_COLUMN};
use tokio_postgres::Client;

use super::{StreamError, StreamName, name};
use crate::{
    home::Outcome,
    roles::Roles,
    sql_error::{Doing, SqlError},
};

/// A publication of this installation's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OurPublication {
    /// Its name.
    pub name: String,
    /// The move it was made for.
    pub operation: OperationId,
}

/// Makes a stream's publication: the tenant's rows of all isolated tables of a schema. As administrator, before the slot is
/// made, which sees it as it is then.
///
/// # Errors
///
/// [`StreamError::NoKey`] for a table whose changes can't be told, [`StreamError::NotOurs`], and where a statement fails.
///
/// # Cancel safety
///
/// Dropped, it was made or not; ask again.
pub async fn make_publication(
    admin: &Client,
    name: &StreamName,
    schema: &str,
    tenant: TenantId,
) -> Result<Outcome, StreamError> {
    let mark = mark(name, tenant);
    match comment(admin, name).await? {
        Some(there) if there.as_deref() == Some(mark.as_str()) => return Ok(Outcome::AlreadySo),
        Some(_) => return Err(StreamError::NotOurs { name: name.text() }),
        None => {}
    }
    let filter = Literal::new(tenant.to_string()).expect("a uuid holds no zero byte");
    let tables = tables(admin, schema)
        .await?
        .iter()
        .map(|table| format!("{table} where ({TENANT_COLUMN} = {filter})"))
        .collect::<Vec<_>>()
        .join(", ");
    let tables = match tables.is_empty() {
        true => String::new(),
        false => format!(" for table {tables}"),
    };
    let mark = Literal::new(mark).expect("a mark holds no zero byte");
    let publication = name.identifier();
    // A truncation is published to be refused: who does not hear of it keeps rows that are gone. The parts of a partitioned table
    // may be others at the target.
    let sql = format!(
        "begin;
         create publication {publication}{tables}
           with (publish = 'insert, update, delete, truncate', publish_via_partition_root = true);
         comment on publication {publication} is {mark};
         commit"
    );
    let made = admin.batch_execute(&sql).await;
    if made.is_err() {
        // Where this fails too the connection is gone, and the transaction with it.
        let _ = admin.batch_execute("rollback").await;
    }
    made.doing("make the move's publication")?;
    Ok(Outcome::Done)
}

/// Drops a stream's publication.
///
/// # Errors
///
/// [`StreamError::NotOurs`] where it has not our mark.
pub async fn drop_publication(admin: &Client, name: &StreamName) -> Result<Outcome, StreamError> {
    match comment(admin, name).await? {
        None => Ok(Outcome::AlreadySo),
        Some(Some(there)) if there.starts_with(&mark_of_move(name)) => {
            let publication = name.identifier();
            admin
                .batch_execute(&format!("drop publication if exists {publication}"))
                .await
                .doing("drop the move's publication")?;
            Ok(Outcome::Done)
        }
        Some(_) => Err(StreamError::NotOurs { name: name.text() }),
    }
}

/// This installation's publications in the connected database.
///
/// # Errors
///
/// Where the database can't be asked.
pub async fn list_publications(
    client: &Client,
    installation: &InstallationId,
) -> Result<Vec<OurPublication>, StreamError> {
    let rows = client
        .query(
            "select pubname::text from pg_catalog.pg_publication
              where pg_catalog.starts_with(pubname::text, $1)
                and pg_catalog.starts_with(pg_catalog.obj_description(oid, 'pg_publication'), $2)
              order by 1",
            &[&name::prefix(installation), &Roles::mark(installation)],
        )
        .await
        .doing("list the publications of moves")?;
    Ok(rows
        .iter()
        .filter_map(|row| {
            let name: String = row.get(0);
            let operation = StreamName::parse(installation, &name)?.operation();
            Some(OurPublication { name, operation })
        })
        .collect())
}

fn mark_of_move(name: &StreamName) -> String {
    format!("{} move {} ", Roles::mark(name.installation()), name.operation())
}

fn mark(name: &StreamName, tenant: TenantId) -> String {
    format!("{}tenant {tenant}", mark_of_move(name))
}

/// The comment of the publication, if there is one.
async fn comment(client: &Client, name: &StreamName) -> Result<Option<Option<String>>, SqlError> {
    let row = client
        .query_opt(
            "select pg_catalog.obj_description(oid, 'pg_publication') from pg_catalog.pg_publication where pubname = $1",
            &[&name.text()],
        )
        .await
        .doing("look for the move's publication")?;
    Ok(row.map(|row| row.get(0)))
}

/// The isolated tables. What is told of a changed row has to hold the tenant, for the filter; and where it is the whole row, no
/// generated columns, or PostgreSQL 18 refuses the application's updates.
pub(super) async fn tables(client: &Client, schema: &str) -> Result<Vec<Qualified>, StreamError> {
    let rows = client
        .query(
            "select c.relname::text,
                    c.relreplident = 'f' and exists (select from pg_catalog.pg_index i where i.indrelid = c.oid and i.indisprimary)
                      and not exists (select from pg_catalog.pg_attribute g where g.attrelid = c.oid and g.attgenerated <> '')
                    or exists (select from pg_catalog.pg_index i
                                where i.indrelid = c.oid and a.attnum = any (i.indkey)
                                  and case c.relreplident when 'd' then i.indisprimary when 'i' then i.indisreplident end)
               from pg_catalog.pg_class c
               join pg_catalog.pg_namespace n on n.oid = c.relnamespace
               join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attname = $2 and not a.attisdropped
              where n.nspname = $1 and c.relkind in ('r', 'p') and not c.relispartition
              order by 1",
            &[&schema, &TENANT_COLUMN],
        )
        .await
        .doing("list the tables that a move streams")?;
    let mut tables = Vec::with_capacity(rows.len());
    for row in rows {
        let table: String = row.get(0);
        if !row.get::<_, bool>(1) {
            return Err(StreamError::NoKey { table });
        }
        tables.push(Qualified::new(schema, table)?);
    }
    Ok(tables)
}
