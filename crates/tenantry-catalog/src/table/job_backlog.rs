//! How many jobs wait and are dead in each tenant database, as it said last.

use std::time::Duration;

use tenantry_core::TenantDatabaseId;

use super::tenant_database::{COLUMNS, TenantDatabase};
use crate::{CatalogError, Db, Transaction, db::light};

/// The jobs of one tenant database, or of all.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct JobBacklog {
    /// Due, and taken by no worker.
    pub waiting: i64,
    /// For how long the first of them has been due; zero where none waits.
    pub oldest: Duration,
    /// Dead ones.
    pub dead: i64,
}

/// Tenant databases that were not asked for so long, those first that were asked longest ago; at most so many.
///
/// # Errors
/// When the catalog fails.
pub async fn list_to_count(db: &impl Db, older_than: Duration, most: i64) -> Result<Vec<TenantDatabase>, CatalogError> {
    let rows = db
        .query(
            &format!(
                "select {COLUMNS}
                 from tenant_database as d
                 left join job_backlog as b on b.tenant_database = d.id
                 where d.state = 'ready'
                   and (b.asked_at is null or b.asked_at < now() - $1 * interval '1 second')
                 order by b.asked_at nulls first, d.id
                 limit $2"
            ),
            &[&older_than.as_secs_f64(), &most],
        )
        .await?;
    rows.iter().map(|row| TenantDatabase::from_row(row, 0)).collect()
}

/// A tenant database is asked now.
///
/// # Errors
/// When the catalog fails.
pub async fn begin(db: &impl Db, database: TenantDatabaseId) -> Result<(), CatalogError> {
    let sql = light(
        "insert into job_backlog (tenant_database)
         select d.id from light, tenant_database as d where d.id = $1
         on conflict (tenant_database) do update set asked_at = now()",
    );
    db.execute(&sql, &[database.as_uuid()]).await?;
    Ok(())
}

/// Notes what a tenant database said just now; nothing where it is gone meanwhile.
///
/// # Errors
/// When the catalog fails.
pub async fn set(db: &impl Db, database: TenantDatabaseId, backlog: &JobBacklog) -> Result<(), CatalogError> {
    let sql = light(
        "update job_backlog
         set waiting = $2::int8, oldest_due_at = case when $2::int8 > 0 then now() - $3 * interval '1 second' end, dead = $4, counted_at = now()
         from light
         where tenant_database = $1",
    );
    db.execute(
        &sql,
        &[
            database.as_uuid(),
            &backlog.waiting,
            &backlog.oldest.as_secs_f64(),
            &backlog.dead,
        ],
    )
    .await?;
    Ok(())
}

/// The jobs of all ready tenant databases together, and how old the oldest of these answers is.
///
/// # Errors
/// When the catalog fails.
pub async fn sum(db: &impl Db) -> Result<(JobBacklog, Duration), CatalogError> {
    let row = db
        .query_one(
            "select coalesce(sum(b.waiting), 0)::bigint, coalesce(sum(b.dead), 0)::bigint,
                    coalesce(extract(epoch from now() - min(b.oldest_due_at)), 0)::float8,
                    coalesce(extract(epoch from now() - min(b.counted_at)), 0)::float8
             from job_backlog as b
             join tenant_database as d on d.id = b.tenant_database and d.state = 'ready'",
            &[],
        )
        .await?;
    let duration = |column: usize| Duration::try_from_secs_f64(row.get::<_, f64>(column)).unwrap_or_default();
    let backlog = JobBacklog {
        waiting: row.get(0),
        dead: row.get(1),
        oldest: duration(2),
    };
    Ok((backlog, duration(3)))
}

/// The turn to count, until the transaction ends; `false` where another process has it.
///
/// # Errors
/// When the catalog fails.
pub async fn take_turn(transaction: &Transaction<'_>) -> Result<bool, CatalogError> {
    let row = Db::query_one(
        transaction,
        "select pg_try_advisory_xact_lock(hashtextextended('tenantry.count_jobs', 0))",
        &[],
    )
    .await?;
    Ok(row.get(0))
}
