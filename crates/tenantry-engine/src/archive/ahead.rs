//! What rows have of migrations that have not ended: one of data is done to one tenant after the other, each is noted, and the ledger names
//! it when all have it. Rows that go elsewhere in between take along what was done to them, or it would be done again there.

use tokio_postgres::Client;

use super::Place;
use crate::sql_error::{Doing as _, SqlError};

/// From each migration to the next, however many tenants have it.
const AHEAD: &str = "
    with recursive begun as (
        select pg_catalog.min(t.version) as version from tenantry_private.migration_tenant as t where t.schema = $1
        union all
        select (select pg_catalog.min(t.version) from tenantry_private.migration_tenant as t
                 where t.schema = $1 and t.version > b.version)
          from begun as b where b.version is not null
    )
    select b.version from begun as b
     where exists (select from tenantry_private.migration_tenant as t
                    where t.schema = $1 and t.version = b.version and t.tenant = $2)
       and not exists (select from tenantry_private.migration as m where m.schema = $1 and m.version = b.version)
     order by b.version";

/// The migrations that the tenant's rows have and the ledger of their tables has not.
pub(super) async fn read(client: &Client, place: &Place) -> Result<Vec<i64>, SqlError> {
    let rows = client
        .query(AHEAD, &[&place.schema, place.tenant.as_uuid()])
        .await
        .doing("read which migrations have not ended")?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Writes down that rows which have come there have these, and no others that the ledger has not.
pub(super) async fn write(client: &Client, place: &Place, ahead: &[i64]) -> Result<(), SqlError> {
    let mut gone = read(client, place).await?;
    gone.retain(|version| !ahead.contains(version));
    if !gone.is_empty() {
        client
            .execute(
                "delete from tenantry_private.migration_tenant where schema = $1 and tenant = $2 and version = any ($3)",
                &[&place.schema, place.tenant.as_uuid(), &gone],
            )
            .await
            .doing("forget which migrations the rows had")?;
    }
    if !ahead.is_empty() {
        client
            .execute(
                "insert into tenantry_private.migration_tenant (schema, version, tenant)
                 select $1, v, $2 from pg_catalog.unnest($3::pg_catalog.int8[]) as v on conflict do nothing",
                &[&place.schema, place.tenant.as_uuid(), &ahead],
            )
            .await
            .doing("write down which migrations the rows have")?;
    }
    Ok(())
}
