//! A tenant's rows in shared tables.

use tenantry_core::{InstallationId, TenantId};
use tenantry_sql::{Identifier, Literal};
use tokio_postgres::{Client, Row, error::SqlState};

use super::HomeError;
use crate::{
    roles::Roles,
    sql_error::{Doing, SqlError},
    transfer::{self, Column, Table},
};

/// Rows per transaction: locks and write-ahead log stay small beside the tenants that are in use.
const BATCH: u32 = 5_000;
/// Where each transaction lifts the fence and puts it back, which makes every session plan anew.
const BATCH_LIFTED: u32 = 50_000;

/// By an index that begins with the tenant, in its order, and not through the table. Where the tenant has most of its rows PostgreSQL would
/// rather read the table, each batch from its beginning: through all that the batches before have deleted, which costs as much as the square of the
/// rows. A bitmap is made of all of the tenant's rows for each batch, and so is what is sorted. A look at the index from where the batch before ended
/// passes none of those again, also where a long transaction keeps them from being forgotten.
const BY_INDEX: &str = "set local enable_seqscan = off; set local enable_bitmapscan = off; set local enable_sort = off";

/// In which role a tenant's rows are read and written by the administrator.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Acting {
    /// As the mover, past row security and without the application's triggers.
    Mover,
    /// As the owner, in the tenant's context: an administrator who is no superuser may not act as the mover.
    Owner,
}

/// Deletes all rows of a tenant from the isolated tables of a schema, in batches, children before their parents. Tells how
/// many. The application's triggers do not run where the server allows that.
///
/// The tenant must be fenced off as suspended: nobody may add rows meanwhile.
///
/// # Errors
///
/// Where a statement fails; what was deleted stays deleted, and another call goes on.
///
/// # Cancel safety
///
/// Dropped, the open batch is rolled back with the connection.
pub async fn delete_rows(
    client: &Client,
    installation: &InstallationId,
    schema: &str,
    tenant: TenantId,
) -> Result<u64, HomeError> {
    let mut tables = filled(client, schema).await?;
    let acting = acting(client, installation).await?;
    let mut deleted = 0;
    while !tables.is_empty() {
        let mut held_back = Vec::new();
        let before = tables.len();
        let mut last_refusal = None;
        for table in tables {
            match empty(client, installation, &table, tenant, acting).await {
                Ok(rows) => deleted += rows,
                Err(error) if error.code() == Some(SqlState::FOREIGN_KEY_VIOLATION.code()) => {
                    last_refusal = Some(error);
                    held_back.push(table);
                }
                Err(error) => return Err(error.into()),
            }
        }
        // A circle of foreign keys that nothing can break from outside.
        if let Some(error) = last_refusal.filter(|_| held_back.len() == before) {
            return Err(error.into());
        }
        tables = held_back;
    }
    Ok(deleted)
}

/// The isolated tables, those that refer to others first. Partitions are reached through their parent.
async fn filled(client: &Client, schema: &str) -> Result<Vec<Filled>, HomeError> {
    let rows = client
        .query(
            "select pg_catalog.format('%I.%I', n.nspname, c.relname)
               from pg_catalog.pg_class as c
               join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
               join pg_catalog.pg_attribute as a on a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped
              where n.nspname = $1 and c.relkind in ('r', 'p') and not c.relispartition
              order by (select count(*) from pg_catalog.pg_constraint as f where f.confrelid = c.oid and f.contype = 'f'),
                       c.relname",
            &[&schema],
        )
        .await
        .doing("list the shared tables")?;
    let known = transfer::tables(client, &Identifier::new(schema)?).await?;
    let of = |row: &Row| {
        let quoted: String = row.get(0);
        let table = known.iter().find(|table| table.quoted == quoted);
        Filled {
            order: table.and_then(Order::of),
            quoted,
        }
    };
    Ok(rows.iter().map(of).collect())
}

/// A table that holds rows of tenants.
struct Filled {
    quoted: String,
    /// Nothing where it has no key.
    order: Option<Order>,
}

/// The order of a key in which batches go on, each where the one before ended.
struct Order {
    /// The columns behind the tenant's of a row `o`, as a list.
    columns: String,
    /// What gives the values of such a row as a list for SQL.
    values: String,
}

impl Order {
    fn of(table: &Table) -> Option<Self> {
        let (first, rest) = table.key.split_first()?;
        if first != "tenant_id" || rest.is_empty() {
            return None;
        }
        let find = |name: &String| table.columns.iter().find(|column| column.name == *name);
        let columns: Vec<_> = rest.iter().map(find).collect::<Option<_>>()?;
        let value = |column: &&Column| {
            let kind = column.kind.replace('\'', "''");
            format!(
                "pg_catalog.quote_literal(o.{}::pg_catalog.text) || '::{kind}'",
                column.quoted
            )
        };
        let names: Vec<_> = columns.iter().map(|column| format!("o.{}", column.quoted)).collect();
        let values: Vec<_> = columns.iter().map(value).collect();
        Some(Self {
            columns: names.join(", "),
            values: values.join(" || ', ' || "),
        })
    }
}

impl Filled {
    /// Deletes some rows of a tenant behind those whose values are given. Tells how many, how many it saw, and the last one's values.
    fn delete(&self, tenant: &Literal, batch: u32, behind: Option<&str>) -> String {
        let Self { quoted, order } = self;
        let (values, beyond, in_order) = match order {
            None => ("null", String::new(), String::new()),
            Some(Order { columns, values }) => (
                values.as_str(),
                behind.map_or_else(String::new, |behind| format!(" and ({columns}) > ({behind})")),
                format!(" order by {columns}"),
            ),
        };
        // The tenant is named twice: a ctid is unique within one partition only. And so that no index is taken for it: by its number a row
        // is found at once.
        format!(
            "with few as materialized (
               select o.ctid as place, {values}::pg_catalog.text as row_values from {quoted} as o
                where o.tenant_id = {tenant}{beyond}{in_order} limit {batch}
             ), gone as (
               delete from {quoted} where (tenant_id = {tenant}) is true and ctid = any (array(select f.place from few as f)) returning 1
             )
             select (select pg_catalog.count(*) from gone), pg_catalog.count(*),
                    (pg_catalog.array_agg(f.row_values))[pg_catalog.count(*)::pg_catalog.int4]
               from few as f"
        )
    }
}

/// What the administrator may act as.
pub(crate) async fn acting(client: &Client, installation: &InstallationId) -> Result<Acting, SqlError> {
    let mover = Roles::of(installation).mover;
    let row = client
        .query_one(
            "select pg_catalog.pg_has_role($1, 'member')
                and pg_catalog.has_parameter_privilege($1, 'session_replication_role', 'set')
                and (select rolbypassrls from pg_catalog.pg_roles where rolname = $1)",
            &[&mover.as_str()],
        )
        .await
        .doing("read the mover's rights")?;
    Ok(if row.get(0) { Acting::Mover } else { Acting::Owner })
}

async fn empty(
    client: &Client,
    installation: &InstallationId,
    table: &Filled,
    tenant: TenantId,
    acting: Acting,
) -> Result<u64, SqlError> {
    let Roles { mover, owner, .. } = Roles::of(installation);
    let tenant = Literal::new(tenant.to_string()).expect("a uuid holds no zero byte");
    let (batch, begin, commit) = match acting {
        Acting::Mover => (
            BATCH,
            format!("set local role {mover}; set local session_replication_role = replica"),
            "commit".to_owned(),
        ),
        Acting::Owner => (
            BATCH_LIFTED,
            format!(
                "select tenantry_private.act_for({tenant}); select pg_catalog.set_config('tenantry.unnoted', 'on', true);
                 set local role {owner}"
            ),
            format!("set local role none; select tenantry_private.act_done({tenant}); commit"),
        ),
    };
    let begin = format!("begin; set local lock_timeout = '10s'; {BY_INDEX}; {begin}");
    let (mut deleted, mut of_pass) = (0, 0);
    let mut behind: Option<String> = None;
    loop {
        let delete = table.delete(&tenant, batch, behind.as_deref());
        let one = async {
            client.batch_execute(&begin).await?;
            let row = client.query_typed_one(&delete, &[]).await?;
            client.batch_execute(&commit).await?;
            Ok(row)
        };
        let row = match one.await {
            Ok(row) => row,
            Err(error) => {
                // Where this fails too the connection is gone, and the transaction with it.
                let _ = client.batch_execute("rollback").await;
                return Err(error).doing("delete the tenant's rows");
            }
        };
        of_pass += row.get::<_, i64>(0).unsigned_abs();
        behind = row.get(2);
        if row.get::<_, i64>(1) < i64::from(batch) {
            // Nothing rests on the order: it is over when a look from the beginning finds none.
            if of_pass == 0 {
                return Ok(deleted);
            }
            deleted += of_pass;
            (of_pass, behind) = (0, None);
        }
    }
}
