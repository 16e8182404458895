//! What tenants used, by the day.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, Utc};
use tenantry_core::TenantId;
use uuid::Uuid;

use crate::{CatalogError, Db, db::light};

/// What a tenant used on a day.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Usage {
    /// The day, in UTC.
    pub day: NaiveDate,
    /// Requests that were recognised as the tenant's.
    pub requests: i64,
    /// Those of them that were refused because the tenant had used up what it has.
    pub limited: i64,
    /// Those of them that failed through no fault of the tenant's.
    pub failed: i64,
    /// How long they took, all together, in milliseconds.
    pub busy_ms: i64,
    /// The bytes it had, as last measured on that day.
    pub bytes: Option<i64>,
    /// The rows it had by table, as last measured on that day; of the tables that its plan limits.
    pub rows: Option<BTreeMap<String, u64>>,
    /// When it was last added to.
    pub updated_at: DateTime<Utc>,
}

/// What was used since the last time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct More {
    /// By whom.
    pub tenant: TenantId,
    /// Requests.
    pub requests: u64,
    /// Refused ones.
    pub limited: u64,
    /// Failed ones.
    pub failed: u64,
    /// How long they took.
    pub busy_ms: u64,
}

/// Adds to today's figures, for the tenants in one order: then two processes that do so never wait for each other in a circle. What a
/// crash of the catalog forgets is some moments of it.
///
/// # Errors
/// When the catalog fails: nothing is added then.
pub async fn add(db: &impl Db, more: &[More]) -> Result<(), CatalogError> {
    let signed = |figure: fn(&More) -> u64| -> Vec<i64> {
        let figures = more.iter().map(|more| i64::try_from(figure(more)).unwrap_or(i64::MAX));
        figures.collect()
    };
    let tenants: Vec<Uuid> = more.iter().map(|more| *more.tenant.as_uuid()).collect();
    let sql = light(
        "insert into usage_day as u (tenant, day, requests, limited, failed, busy_ms)
         select m.tenant, (now() at time zone 'UTC')::date, m.requests, m.limited, m.failed, m.busy_ms
         from light, unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[])
              as m (tenant, requests, limited, failed, busy_ms)
         -- What is told late of a tenant that is purged is not kept.
         join tenant as t on t.id = m.tenant and t.state <> 'purged'
         order by m.tenant
         on conflict (tenant, day) do update
         set requests = u.requests + excluded.requests, limited = u.limited + excluded.limited,
             failed = u.failed + excluded.failed, busy_ms = u.busy_ms + excluded.busy_ms, updated_at = now()",
    );
    db.execute(
        &sql,
        &[
            &tenants,
            &signed(|more| more.requests),
            &signed(|more| more.limited),
            &signed(|more| more.failed),
            &signed(|more| more.busy_ms),
        ],
    )
    .await?;
    Ok(())
}

/// Notes what was measured today.
///
/// # Errors
/// When the catalog fails.
pub async fn set_size(
    db: &impl Db,
    tenant: TenantId,
    bytes: i64,
    rows: &BTreeMap<String, u64>,
) -> Result<(), CatalogError> {
    let rows = serde_json::to_value(rows).unwrap_or_default();
    db.execute(
        "insert into usage_day (tenant, day, bytes, rows) values ($1, (now() at time zone 'UTC')::date, $2, $3)
         on conflict (tenant, day) do update set bytes = excluded.bytes, rows = excluded.rows",
        &[tenant.as_uuid(), &bytes, &rows],
    )
    .await?;
    Ok(())
}

/// What a tenant used on its last days with any use, the newest first.
///
/// # Errors
/// When the catalog fails.
pub async fn list(db: &impl Db, tenant: TenantId, days: i64) -> Result<Vec<Usage>, CatalogError> {
    let rows = db
        .query(
            "select day, requests, limited, failed, busy_ms, bytes, rows, updated_at
             from usage_day where tenant = $1 order by day desc limit $2",
            &[tenant.as_uuid(), &days],
        )
        .await?;
    let usage = |row: &tokio_postgres::Row| Usage {
        day: row.get(0),
        requests: row.get(1),
        limited: row.get(2),
        failed: row.get(3),
        busy_ms: row.get(4),
        bytes: row.get(5),
        rows: row
            .get::<_, Option<serde_json::Value>>(6)
            .and_then(|rows| serde_json::from_value(rows).ok()),
        updated_at: row.get(7),
    };
    Ok(rows.iter().map(usage).collect())
}

/// Served tenants whose plan limits what has to be measured and who were used lately, and those who have too much of something, whatever
/// their plan gives by now.
///
/// # Errors
/// When the catalog fails.
pub async fn list_to_measure(db: &impl Db, used_within_s: f64) -> Result<Vec<TenantId>, CatalogError> {
    let rows = db
        .query(
            "select t.id
             from plan_limit as l join tenant as t on t.plan = l.plan and t.state = 'active'
             where (l.storage_bytes is not null or l.jobs is not null or l.rows <> '{}')
               and exists (select from usage_day as u
                           where u.tenant = t.id and u.updated_at > now() - $1 * interval '1 second')
             union
             select t.id
             from plan_excess as e join tenant as t on t.id = e.tenant and t.state = 'active'
             order by 1",
            &[&used_within_s],
        )
        .await?;
    Ok(rows.iter().map(|row| TenantId::from_uuid(row.get(0))).collect())
}

/// Forgets days that are longer ago than anybody asks for.
///
/// # Errors
/// When the catalog fails.
pub async fn prune(db: &impl Db) -> Result<u64, CatalogError> {
    Ok(db
        .execute(
            "delete from usage_day where day < (now() at time zone 'UTC')::date - 400",
            &[],
        )
        .await?)
}

/// The turn to measure, until the transaction ends; `false` where another process has it.
///
/// # Errors
/// When the catalog fails.
pub async fn take_turn(transaction: &crate::Transaction<'_>) -> Result<bool, CatalogError> {
    let row = Db::query_one(
        transaction,
        "select pg_try_advisory_xact_lock(hashtextextended('tenantry.measure', 0))",
        &[],
    )
    .await?;
    Ok(row.get(0))
}
