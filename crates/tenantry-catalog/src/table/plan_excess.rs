//! Tenants that have more of something than their plan gives.

use tenantry_core::{Excess, TenantId};

use crate::{CatalogError, Db};

/// What of, in the order of the names.
///
/// # Errors
/// When the catalog fails.
pub async fn list(db: &impl Db, tenant: TenantId) -> Result<Vec<Excess>, CatalogError> {
    let rows = db
        .query(
            "select limit_name, quota, used from plan_excess where tenant = $1 order by limit_name",
            &[tenant.as_uuid()],
        )
        .await?;
    let number = |stored: i64| u64::try_from(stored).unwrap_or(0);
    let excess = |row: &tokio_postgres::Row| Excess {
        limit: row.get(0),
        quota: number(row.get(1)),
        used: number(row.get(2)),
    };
    Ok(rows.iter().map(excess).collect())
}

/// Puts these in the place of what was known; whether the names are others than before.
///
/// # Errors
/// When the catalog fails.
pub async fn replace(db: &impl Db, tenant: TenantId, found: &[Excess]) -> Result<bool, CatalogError> {
    let before = list(db, tenant).await?;
    let names = |excess: &[Excess]| excess.iter().map(|excess| excess.limit.clone()).collect::<Vec<_>>();
    let mut sorted = found.to_vec();
    sorted.sort_by(|one, other| one.limit.cmp(&other.limit));
    if before == sorted {
        return Ok(false);
    }
    let signed = |figure: fn(&Excess) -> u64| -> Vec<i64> {
        let figures = sorted
            .iter()
            .map(|excess| i64::try_from(figure(excess)).unwrap_or(i64::MAX));
        figures.collect()
    };
    db.execute(
        "delete from plan_excess where tenant = $1 and limit_name <> all ($2)",
        &[tenant.as_uuid(), &names(&sorted)],
    )
    .await?;
    db.execute(
        "insert into plan_excess (tenant, limit_name, quota, used)
         select $1, e.limit_name, e.quota, e.used
         from unnest($2::text[], $3::bigint[], $4::bigint[]) as e (limit_name, quota, used)
         on conflict (tenant, limit_name) do update set quota = excluded.quota, used = excluded.used",
        &[
            tenant.as_uuid(),
            &names(&sorted),
            &signed(|excess| excess.quota),
            &signed(|excess| excess.used),
        ],
    )
    .await?;
    Ok(names(&before) != names(&sorted))
}
