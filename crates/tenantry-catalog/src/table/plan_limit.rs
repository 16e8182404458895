//! What plans give at most.

use std::num::{NonZeroU32, NonZeroU64};

use tenantry_core::{Plan, PlanLimits};
use tokio_postgres::Row;

use crate::{CatalogError, Db, text::parsed};

/// The columns, in the order in which [`limits`] reads them; of a table called `l`.
pub(super) const COLUMNS: &str =
    "l.requests_per_s, l.burst, l.concurrent, l.statement_ms, l.members, l.storage_bytes, l.rows, l.jobs";

/// The limits in a row from the column `first` on; none where the row has no plan's.
pub(super) fn limits(row: &Row, first: usize) -> Result<PlanLimits, CatalogError> {
    let number = |column: usize| {
        let stored: Option<i32> = row.get(first + column);
        stored
            .and_then(|number| u32::try_from(number).ok())
            .and_then(NonZeroU32::new)
    };
    let bytes: Option<i64> = row.get(first + 5);
    let rows: Option<serde_json::Value> = row.get(first + 6);
    Ok(PlanLimits {
        requests_per_s: number(0),
        burst: number(1),
        concurrent: number(2),
        statement_ms: number(3),
        members: number(4),
        storage_bytes: bytes
            .and_then(|bytes| u64::try_from(bytes).ok())
            .and_then(NonZeroU64::new),
        rows: match rows {
            Some(rows) => serde_json::from_value(rows).map_err(|_| CatalogError::Unknown {
                column: "plan_limit.rows",
            })?,
            None => Default::default(),
        },
        jobs: number(7),
    })
}

/// A plan's limits; none where nothing is said of it.
///
/// # Errors
/// When the catalog fails.
pub async fn find(db: &impl Db, plan: &Plan) -> Result<Option<PlanLimits>, CatalogError> {
    let sql = format!("select {COLUMNS} from plan_limit as l where l.plan = $1");
    let row = db.query_opt(&sql, &[&plan.as_str()]).await?;
    row.as_ref().map(|row| limits(row, 0)).transpose()
}

/// Every plan with limits, by name.
///
/// # Errors
/// When the catalog fails.
pub async fn list(db: &impl Db) -> Result<Vec<(Plan, PlanLimits)>, CatalogError> {
    let sql = format!("select l.plan, {COLUMNS} from plan_limit as l order by l.plan");
    let rows = db.query(&sql, &[]).await?;
    rows.iter()
        .map(|row| Ok((parsed(row, 0, "plan_limit.plan")?, limits(row, 1)?)))
        .collect()
}

/// Sets or replaces a plan's limits.
///
/// # Errors
/// When the catalog fails.
pub async fn set(db: &impl Db, plan: &Plan, limits: &PlanLimits) -> Result<(), CatalogError> {
    let number = |limit: Option<NonZeroU32>| limit.map(|limit| i32::try_from(limit.get()).unwrap_or(i32::MAX));
    let bytes = limits
        .storage_bytes
        .map(|limit| i64::try_from(limit.get()).unwrap_or(i64::MAX));
    let rows = serde_json::to_value(&limits.rows).unwrap_or_default();
    db.execute(
        "insert into plan_limit (plan, requests_per_s, burst, concurrent, statement_ms, members, storage_bytes, rows, jobs)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
         on conflict (plan) do update
         set requests_per_s = excluded.requests_per_s, burst = excluded.burst, concurrent = excluded.concurrent,
             statement_ms = excluded.statement_ms, members = excluded.members, storage_bytes = excluded.storage_bytes,
             rows = excluded.rows, jobs = excluded.jobs, changed_at = now()",
        &[
            &plan.as_str(),
            &number(limits.requests_per_s),
            &number(limits.burst),
            &number(limits.concurrent),
            &number(limits.statement_ms),
            &number(limits.members),
            &bytes,
            &rows,
            &number(limits.jobs),
        ],
    )
    .await?;
    Ok(())
}

/// Removes a plan's limits; whether it had any.
///
/// # Errors
/// When the catalog fails.
pub async fn remove(db: &impl Db, plan: &Plan) -> Result<bool, CatalogError> {
    let removed = db
        .execute("delete from plan_limit where plan = $1", &[&plan.as_str()])
        .await?;
    Ok(removed > 0)
}

/// The limits of the tenant's plan.
///
/// # Errors
/// When the catalog fails.
pub async fn of_tenant(db: &impl Db, tenant: tenantry_core::TenantId) -> Result<PlanLimits, CatalogError> {
    let sql = format!("select {COLUMNS} from tenant as t left join plan_limit as l on l.plan = t.plan where t.id = $1");
    let row = db.query_opt(&sql, &[tenant.as_uuid()]).await?;
    row.as_ref()
        .map_or_else(|| Ok(PlanLimits::default()), |row| limits(row, 0))
}
