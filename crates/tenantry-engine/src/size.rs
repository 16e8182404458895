//! How large a tenant is, as PostgreSQL's statistics say it: no table is read but the one row that counts a tenant's files.

use tenantry_core::{InstallationId, TenantId};
use tokio_postgres::{Client, GenericClient};

use crate::{
    home::{Acting, acting},
    roles::Roles,
    sql_error::{Doing, SqlError},
};

/// A table of a tenant's, and how large the tenant's part of it is.
#[derive(Clone, PartialEq, Debug)]
pub struct TableSize {
    /// Its name.
    pub table: String,
    /// Its rows of the tenant, estimated: as the last vacuum or analyze found them, or as many as were written before the first. `None` where
    /// PostgreSQL has no figures about the tenant's part of a shared table yet.
    pub rows: Option<i64>,
    /// Its bytes, indexes and what is stored out of line included. Of a shared table, the part that the rows make up.
    pub bytes: Option<i64>,
}

/// The tables of a schema with one tenant's rows in it, the largest first.
///
/// # Errors
///
/// Where the statistics can't be read.
pub async fn of_own_schema(client: &impl GenericClient, schema: &str) -> Result<Vec<TableSize>, SqlError> {
    read(client, OWN, &[&schema]).await
}

/// The tables of a schema that tenants share, the largest first, and this tenant's part in them.
///
/// It is what PostgreSQL knows of how often the tenant's id stands in the column: exact within its sample for the tenants with the
/// most rows, and for each of the others the same, what is left over divided by their number.
///
/// # Errors
///
/// Where the statistics can't be read.
pub async fn of_shared_schema(
    client: &impl GenericClient,
    schema: &str,
    tenant: TenantId,
) -> Result<Vec<TableSize>, SqlError> {
    read(client, SHARED, &[&schema, &tenant.as_uuid().to_string()]).await
}

/// The bytes of the whole database, catalogs included.
///
/// # Errors
///
/// Where it can't be asked.
pub async fn of_database(client: &impl GenericClient) -> Result<i64, SqlError> {
    let row = client
        .query_one("select pg_catalog.pg_database_size(pg_catalog.current_database())", &[])
        .await
        .doing("ask for the size of the database")?;
    Ok(row.get(0))
}

/// The bytes of a tenant's files, by the count that the library's files keep in the tenant's tables: zero where it keeps none. `None`
/// where the administrator may not read past row security.
///
/// # Errors
///
/// Where the count can't be read, or not soon.
///
/// # Cancel safety
///
/// It only reads.
pub async fn of_files(
    client: &Client,
    installation: &InstallationId,
    schema: &str,
    tenant: TenantId,
) -> Result<Option<i64>, SqlError> {
    let found = client
        .query_opt(FILES, &[&schema])
        .await
        .doing("look for the count of files")?;
    let Some(found) = found else { return Ok(Some(0)) };
    let (table, superuser): (String, bool) = (found.get(0), found.get(1));
    let role = match (superuser, acting(client, installation).await?) {
        (true, _) => String::new(),
        (false, Acting::Mover) => format!("set local role {}", Roles::of(installation).mover),
        (false, Acting::Owner) => return Ok(None),
    };
    let read = async {
        // A migration may hold the table for long; whoever asks comes again.
        client
            .batch_execute(&format!("begin read only; set local lock_timeout = '3s'; {role}"))
            .await?;
        let sql = format!("select bytes from {table} where tenant_id = $1 and id = 1");
        client.query_opt(&sql, &[tenant.as_uuid()]).await
    };
    let outcome = read.await;
    // Where this fails too the connection is gone, and the transaction with it.
    let _ = client.batch_execute("rollback").await;
    let row = outcome.doing("read the count of files")?;
    Ok(Some(row.map_or(0, |row| row.get(0))))
}

/// The bytes of all databases that this installation has on the server.
///
/// # Errors
///
/// Where it can't be asked.
pub async fn of_tenant_databases(client: &impl GenericClient, installation: &InstallationId) -> Result<i64, SqlError> {
    let prefix = format!("tn_{installation}_");
    let row = client
        .query_one(
            "select coalesce(pg_catalog.sum(pg_catalog.pg_database_size(oid)), 0)::pg_catalog.int8
               from pg_catalog.pg_database where pg_catalog.starts_with(datname::pg_catalog.text, $1)",
            &[&prefix],
        )
        .await
        .doing("ask for the size of the tenant databases")?;
    Ok(row.get(0))
}

/// The table that `tenantry::files` counts in, quoted, and not one of the application's that has its name.
const FILES: &str = "
    select pg_catalog.format('%I.%I', n.nspname, c.relname),
           (select r.rolsuper from pg_catalog.pg_roles r where r.rolname = current_user)
      from pg_catalog.pg_class c
      join pg_catalog.pg_namespace n on n.oid = c.relnamespace
     where n.nspname = $1 and c.relname = 'stored_file_usage' and c.relkind in ('r', 'p')
       and (select count(*) from pg_catalog.pg_attribute a
             where a.attrelid = c.oid and not a.attisdropped
               and (a.attname = 'tenant_id' and a.atttypid = 'pg_catalog.uuid'::pg_catalog.regtype
                 or a.attname = 'id' and a.atttypid = 'pg_catalog.int2'::pg_catalog.regtype
                 or a.attname = 'bytes' and a.atttypid = 'pg_catalog.int8'::pg_catalog.regtype)) = 3";

/// What the last vacuum or analyze found, -1 before the first; until then, what was counted as it was written. That count is not used
/// later: sessions tell it with a delay, so that an analyze in between has it counted twice.
const OWN: &str = "
    select c.relname::pg_catalog.text,
           case when c.reltuples > 0 then c.reltuples::pg_catalog.int8
                else pg_catalog.pg_stat_get_live_tuples(c.oid) end,
           pg_catalog.pg_total_relation_size(c.oid)
      from pg_catalog.pg_class c
      join pg_catalog.pg_namespace n on n.oid = c.relnamespace
     where n.nspname = $1 and c.relkind in ('r', 'm')
     order by 3 desc, 1";

/// `fraction` is null without statistics, and 0 where all that is known of is that the tenant is not among the column's values.
const SHARED: &str = "
    with tables as (
        select c.oid, c.relname, c.reltuples, pg_catalog.pg_stat_get_live_tuples(c.oid) as live,
               pg_catalog.pg_total_relation_size(c.oid) as bytes
          from pg_catalog.pg_class c
          join pg_catalog.pg_namespace n on n.oid = c.relnamespace
         where n.nspname = $1 and c.relkind = 'r'
           and exists (select from pg_catalog.pg_attribute a
                        where a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped)
    ), known as (
        select t.*, s.most_common_freqs as freqs, s.attname is not null as analyzed,
               pg_catalog.array_position(s.most_common_vals::pg_catalog.text::pg_catalog.text[], $2::pg_catalog.text) as place,
               case when s.n_distinct < 0 then -s.n_distinct * greatest(t.reltuples, 0) else s.n_distinct end as tenants
          from tables t
          left join pg_catalog.pg_stats s
            on s.schemaname = $1 and s.tablename = t.relname and s.attname = 'tenant_id' and not s.inherited
    ), parts as (
        select k.relname, case when k.reltuples > 0 then k.reltuples::pg_catalog.int8 else k.live end as all_rows,
               k.bytes,
               case when not k.analyzed then null
                    when k.place is not null then k.freqs[k.place]
                    else greatest(1 - coalesce((select sum(f) from pg_catalog.unnest(k.freqs) as f), 0), 0)
                         / greatest(k.tenants - coalesce(pg_catalog.cardinality(k.freqs), 0), 1)
               end::pg_catalog.float8 as fraction
          from known k
    )
    select relname::pg_catalog.text,
           case when all_rows = 0 then 0 else pg_catalog.round(all_rows * fraction)::pg_catalog.int8 end,
           case when all_rows = 0 then 0 else pg_catalog.round(bytes * fraction)::pg_catalog.int8 end
      from parts
     order by 3 desc nulls last, 1";

async fn read(
    client: &impl GenericClient,
    sql: &str,
    params: &[&(dyn tokio_postgres::types::ToSql + Sync)],
) -> Result<Vec<TableSize>, SqlError> {
    let rows = client.query(sql, params).await.doing("read the sizes of tables")?;
    let table = |row: &tokio_postgres::Row| TableSize {
        table: row.get(0),
        rows: row.get(1),
        bytes: row.get(2),
    };
    Ok(rows.iter().map(table).collect())
}
