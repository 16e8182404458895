//! What a tenant has in its database beside its tables: jobs, schedules, and which migrations of data it has had.
//!
//! Jobs and schedules are signed with the key of their database. What the old database signed is signed anew by the new one; a row
//! that was changed by hand keeps its signature, and with it stays the dead letter that it was.

use futures_util::{SinkExt, TryStreamExt, pin_mut};
use tenantry_core::TenantId;
use tokio_postgres::{Client, error::SqlState, types::Type};

use super::TransferError;
use crate::{
    migrate::overlay_name,
    sql_error::{Doing, SqlError},
};

/// A table of the mechanism with signed rows of tenants.
struct Signed {
    name: &'static str,
    mac: &'static str,
    /// What becomes of rows that somebody was at work on.
    settle: &'static str,
}

const SIGNED: [Signed; 2] = [
    Signed {
        name: "job",
        mac: "job_mac",
        // As if its worker had given it back: the lease was a number of the old database, and counts there only.
        settle: "update pg_temp.carried set state = 0, attempt = greatest(attempt - 1, 0)::pg_catalog.int2,
                        lease = null, leased_until = null, worker = null
                  where state = 1",
    },
    Signed {
        name: "schedule",
        mac: "schedule_mac",
        settle: "select",
    },
];

/// Takes a tenant's jobs and schedules from one database to another, where its earlier ones are thrown away: it can be done again.
/// Jobs that were running wait again. Tells how many rows there are.
///
/// Both databases have the same version of the mechanism, and both fences are closed: nobody enqueues or takes one meanwhile.
///
/// # Errors
///
/// Where a statement fails; drop both connections then.
///
/// # Cancel safety
///
/// Drop both connections; done again, it begins anew.
pub async fn carry_jobs(source: &Client, target: &Client, tenant: TenantId) -> Result<u64, TransferError> {
    target.batch_execute("begin").await.doing("begin to carry jobs")?;
    let mut all = 0;
    for table in &SIGNED {
        // Most tenants have none: a table would be made for them and thrown away, and its commit waited for, while the tenant waits.
        let (here, there) = tokio::try_join!(has(source, table, tenant), has(target, table, tenant))?;
        if here || there {
            all += carry(source, target, tenant, table).await?;
        }
    }
    target.batch_execute("commit").await.doing("commit the jobs")?;
    Ok(all)
}

async fn has(client: &Client, Signed { name, .. }: &Signed, tenant: TenantId) -> Result<bool, SqlError> {
    let row = client
        .query_typed_one(
            &format!("select exists (select from tenantry_private.{name} where tenant = $1)"),
            &[(tenant.as_uuid(), Type::UUID)],
        )
        .await
        .doing("look for jobs")?;
    Ok(row.get(0))
}

/// What one statement gives to another, piece by piece. Tells how many rows.
pub(super) async fn stream(
    source: &Client,
    read: &str,
    target: &Client,
    write: &str,
) -> Result<u64, tokio_postgres::Error> {
    let rows = source.copy_out(read).await?;
    let sink = target.copy_in(write).await?;
    pin_mut!(rows, sink);
    while let Some(piece) = rows.try_next().await? {
        sink.feed(piece).await?;
    }
    sink.finish().await
}

async fn carry(source: &Client, target: &Client, tenant: TenantId, table: &Signed) -> Result<u64, TransferError> {
    let Signed { name, mac, settle } = table;
    let columns = columns(target, name).await?;
    let tenant = tenant.as_uuid();
    target
        .batch_execute(&format!(
            "delete from tenantry_private.{name} where tenant = '{tenant}';
             drop table if exists pg_temp.carried;
             create temporary table carried (like tenantry_private.{name}) on commit drop;
             alter table pg_temp.carried add column genuine boolean"
        ))
        .await
        .doing("make room for jobs")?;
    let failed = |error| TransferError::Copy {
        table: (*name).to_owned(),
        source: error,
    };
    let read = format!(
        "copy (select {columns}, o.mac is not distinct from tenantry_private.{mac}(o.kid, o) from tenantry_private.{name} as o
                where o.tenant = '{tenant}') to stdout"
    );
    let write = format!("copy pg_temp.carried ({columns}, genuine) from stdin");
    let rows = stream(source, &read, target, &write).await.map_err(failed)?;
    target
        .batch_execute(&format!(
            "{settle};
             insert into tenantry_private.{name} ({columns}) select {columns} from pg_temp.carried;
             update tenantry_private.{name} as o set kid = k.kid, mac = tenantry_private.{mac}(k.kid, o)
               from (select kid from tenantry_private.mac_key order by created_at desc, kid desc limit 1) as k
              where o.tenant = '{tenant}'
                and exists (select from pg_temp.carried as c where c.genuine and c.mac = o.mac);
             drop table pg_temp.carried"
        ))
        .await
        .doing("sign the jobs")?;
    Ok(rows)
}

pub(super) async fn columns(client: &Client, table: &str) -> Result<String, SqlError> {
    let row = client
        .query_typed_one(
            "select pg_catalog.string_agg(pg_catalog.quote_ident(a.attname), ', ' order by a.attnum)
               from pg_catalog.pg_attribute a
               join pg_catalog.pg_class c on c.oid = a.attrelid and c.relname = $1
               join pg_catalog.pg_namespace n on n.oid = c.relnamespace and n.nspname = 'tenantry_private'
              where a.attnum > 0 and not a.attisdropped",
            &[(&table, Type::TEXT)],
        )
        .await
        .doing("read the columns of jobs")?;
    Ok(row.get(0))
}

/// Writes down at the target which migrations of data the tenant has had, so that none is done to its rows again.
///
/// # Errors
///
/// Where a statement fails; done again, it goes on.
pub async fn carry_ledger(source: (&Client, &str), target: (&Client, &str), tenant: TenantId) -> Result<(), SqlError> {
    for (from, to) in [
        (source.1.to_owned(), target.1.to_owned()),
        (overlay_name(source.1), overlay_name(target.1)),
    ] {
        let had = source
            .0
            .query(
                "select version from tenantry_private.migration_tenant where schema = $1 and tenant = $2",
                &[&from, tenant.as_uuid()],
            )
            .await
            .doing("read the tenant's migrations of data")?;
        let had: Vec<i64> = had.iter().map(|row| row.get(0)).collect();
        target
            .0
            .execute(
                "insert into tenantry_private.migration_tenant (schema, version, tenant)
                 select $1, v, $2 from pg_catalog.unnest($3::pg_catalog.int8[]) as v on conflict do nothing",
                &[&to, tenant.as_uuid(), &had],
            )
            .await
            .doing("write the tenant's migrations of data")?;
    }
    Ok(())
}

/// Forgets which migrations of data the tenant has had in a schema that others go on using.
///
/// # Errors
///
/// Where the statement fails.
pub async fn forget_ledger(client: &Client, schema: &str, tenant: TenantId) -> Result<(), SqlError> {
    let forgotten = client
        .execute(
            "delete from tenantry_private.migration_tenant where schema = $1 and tenant = $2",
            &[&schema, tenant.as_uuid()],
        )
        .await;
    match forgotten {
        // An administrator who is no superuser may not look; the rows say nothing that counts without the tenant's.
        Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Ok(()),
        other => other.map(drop).doing("forget the tenant's migrations of data"),
    }
}
