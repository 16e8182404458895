//! Tenants that have more of something than their plan gives.

use tenantry_core::{Excess, Plan, TenantId};
use uuid::Uuid;

use crate::{CatalogError, Db};

/// Whose excess is compared with what plans give by now.
#[derive(Clone, Copy, Debug)]
pub enum Whose<'a> {
    /// Everybody's.
    Everybody,
    /// That of the plan's tenants.
    Plan(&'a Plan),
    /// The tenant's.
    Tenant(TenantId),
}

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

/// Compares what was measured last with what plans give now, and forgets what is too much no more; how many tenants have another
/// excess by that.
///
/// Called where a plan or a tenant's plan changes, in that transaction: a tenant whose plan limits nothing any more is measured by
/// nobody, and would otherwise be refused for ever.
///
/// # Errors
/// When the catalog fails.
pub async fn settle(db: &impl Db, whose: Whose<'_>) -> Result<i64, CatalogError> {
    let tenant: Option<Uuid> = match whose {
        Whose::Tenant(tenant) => Some(*tenant.as_uuid()),
        Whose::Everybody | Whose::Plan(_) => None,
    };
    let plan: Option<&str> = match whose {
        Whose::Plan(plan) => Some(plan.as_str()),
        Whose::Everybody | Whose::Tenant(_) => None,
    };
    let row = db
        .query_one(
            // Locked in one order: then two that do so never wait for each other in a circle. A quota of rows may be larger than
            // a bigint.
            "with given as materialized (
                 select e.tenant, e.limit_name,
                        case e.limit_name
                            when 'storage_bytes' then l.storage_bytes::numeric
                            when 'jobs' then l.jobs::numeric
                            else (l.rows ->> substr(e.limit_name, length('rows.') + 1))::numeric
                        end as quota
                 from plan_excess as e
                 join tenant as t on t.id = e.tenant
                 left join plan_limit as l on l.plan = t.plan
                 where ($1::uuid is null or e.tenant = $1) and ($2::text is null or t.plan = $2)
                 order by e.tenant, e.limit_name
                 for update of e
             ),
             stays as (
                 update plan_excess as e set quota = g.quota::bigint
                 from given as g
                 where e.tenant = g.tenant and e.limit_name = g.limit_name and g.quota <= e.used and g.quota <> e.quota
                 returning e.tenant
             ),
             goes as (
                 delete from plan_excess as e
                 using given as g
                 where e.tenant = g.tenant and e.limit_name = g.limit_name and (g.quota is null or g.quota > e.used)
                 returning e.tenant
             )
             select count(*) from (select tenant from stays union select tenant from goes) as changed",
            &[&tenant, &plan],
        )
        .await?;
    Ok(row.get(0))
}
