//! What a tenant has in its database beside its tables, and which migrations of data it has had.

use futures_util::{SinkExt, TryStreamExt, pin_mut};
use tenantry_core::TenantId;
use tokio_postgres::{Client, error::SqlState, types::Type};

use crate::{
    migrate::overlay_name,
    sql_error::{Doing, SqlError},
};

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
        .doing("read the columns of a table of the mechanism")?;
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
