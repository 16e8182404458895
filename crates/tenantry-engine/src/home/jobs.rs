//! Tenants' jobs, as whoever administers their database sees them, and without a tenant where its database goes on.

use chrono::{DateTime, Utc};
use tenantry_core::{AccountId, JobId, JobState, TenantId};
use tokio_postgres::{Client, Row};
use uuid::Uuid;

use super::{HomeError, batches::in_batches};
use crate::sql_error::{Doing, SqlError};

/// A job as it is stored.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StoredJob {
    /// Whose it is.
    pub tenant: TenantId,
    /// Its id within the tenant.
    pub id: JobId,
    /// What there is to do.
    pub kind: String,
    /// With what: the tenant's own data.
    pub payload: String,
    /// Who enqueued it, if a person did.
    pub account: Option<AccountId>,
    /// Where it stands.
    pub state: JobState,
    /// A schedule made it.
    pub scheduled: bool,
    /// Its priority.
    pub priority: i16,
    /// When it is due.
    pub run_at: DateTime<Utc>,
    /// How often it was tried.
    pub attempt: i16,
    /// How often it is tried at most.
    pub attempts_max: i16,
    /// Its unique key.
    pub unique_key: Option<String>,
    /// Why the last attempt failed.
    pub error: Option<String>,
    /// When it was enqueued.
    pub enqueued_at: DateTime<Utc>,
    /// When the last attempt failed.
    pub failed_at: Option<DateTime<Utc>>,
}

impl StoredJob {
    fn of(row: &Row) -> Self {
        let state: i16 = row.get("state");
        let lane: i16 = row.get("lane");
        Self {
            tenant: TenantId::from_uuid(row.get("tenant")),
            id: JobId::from_uuid(row.get("id")),
            kind: row.get("kind"),
            payload: row.get("payload"),
            account: row.get::<_, Option<Uuid>>("account").map(AccountId::from_uuid),
            state: JobState::of_number(state).expect("a check of the table holds it to these"),
            scheduled: lane == 1,
            priority: row.get("priority"),
            run_at: row.get("run_at"),
            attempt: row.get("attempt"),
            attempts_max: row.get("attempts_max"),
            unique_key: row.get("unique_key"),
            error: row.get("error"),
            enqueued_at: row.get("enqueued_at"),
            failed_at: row.get("failed_at"),
        }
    }
}

/// Which jobs: of one tenant or of all, one or all, of one kind or of any.
#[derive(Clone, Copy, Default, Debug)]
pub struct JobChoice<'a> {
    /// Of this tenant.
    pub tenant: Option<TenantId>,
    /// This one.
    pub id: Option<JobId>,
    /// Of this kind.
    pub kind: Option<&'a str>,
}

impl JobChoice<'_> {
    fn ids(&self) -> (Option<Uuid>, Option<Uuid>) {
        (self.tenant.map(|id| *id.as_uuid()), self.id.map(|id| *id.as_uuid()))
    }
}

/// The jobs in these states, by tenant and age, `count` at most, after the one named.
///
/// # Errors
///
/// Where the statement fails.
pub async fn list_jobs(
    client: &Client,
    choice: JobChoice<'_>,
    states: &[JobState],
    after: Option<(TenantId, JobId)>,
    count: i32,
) -> Result<Vec<StoredJob>, SqlError> {
    let (tenant, _) = choice.ids();
    let states: Vec<i16> = states.iter().map(|state| state.number()).collect();
    let after_tenant = after.map(|(tenant, _)| *tenant.as_uuid());
    let after_id = after.map(|(_, id)| *id.as_uuid());
    let rows = client
        .query(
            "select * from tenantry_private.job_list($1, $2, $3, $4, $5, $6)",
            &[&tenant, &choice.kind, &states, &after_tenant, &after_id, &count],
        )
        .await
        .doing("list jobs")?;
    Ok(rows.iter().map(StoredJob::of).collect())
}

/// Lets dead jobs begin anew, with all their attempts; not those whose row was changed, and not where another with the same unique
/// key waits or runs. Tells how many.
///
/// # Errors
///
/// Where a statement fails; what began stays so, and another call goes on.
pub async fn retry_jobs(client: &Client, choice: JobChoice<'_>) -> Result<u64, SqlError> {
    change(client, choice, "select tenantry_private.job_retry($1, $2, $3, $4)").await
}

/// Takes out dead jobs; one that is named in whatever state but running. Tells how many.
///
/// # Errors
///
/// Where a statement fails; what is gone stays so, and another call goes on.
pub async fn remove_jobs(client: &Client, choice: JobChoice<'_>) -> Result<u64, SqlError> {
    change(client, choice, "select tenantry_private.job_remove($1, $2, $3, $4)").await
}

async fn change(client: &Client, choice: JobChoice<'_>, sql: &str) -> Result<u64, SqlError> {
    let (tenant, id) = choice.ids();
    in_batches(client, sql, &[&tenant, &id, &choice.kind], "change jobs").await
}

/// What a tenant has waiting, running or dead, and by the clock.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct JobCount {
    /// Its jobs, whatever their state.
    pub jobs: i64,
    /// Its schedules, with those that programs declare for every tenant.
    pub schedules: i64,
}

/// Counts a tenant's jobs and schedules.
///
/// # Errors
///
/// Where the statement fails.
pub async fn count_jobs(client: &Client, tenant: TenantId) -> Result<JobCount, SqlError> {
    let row = client
        .query_one(
            "select jobs, schedules from tenantry_private.job_count($1)",
            &[tenant.as_uuid()],
        )
        .await
        .doing("count the tenant's jobs")?;
    Ok(JobCount {
        jobs: row.get(0),
        schedules: row.get(1),
    })
}

/// Deletes all jobs of a tenant, whatever their state, and its schedules. Tells how many jobs there were.
///
/// The tenant must be fenced off: nobody may enqueue or take one meanwhile.
///
/// # Errors
///
/// Where a statement fails; what was deleted stays deleted, and another call goes on.
///
/// # Cancel safety
///
/// Dropped, the open batch is rolled back with the connection.
pub async fn delete_jobs(client: &Client, tenant: TenantId) -> Result<u64, HomeError> {
    let sql = "select tenantry_private.job_purge($1, $2)";
    Ok(in_batches(client, sql, &[tenant.as_uuid()], "delete the tenant's jobs").await?)
}
