//! Jobs of a tenant, and of all.

use axum::{Json, extract::State, http::StatusCode};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tenantry::axum::{Body, Fields, FromFields, Path, Problem, Query};
use tenantry_core::{JobId, JobState, TenantId};
use tenantry_ops::{FleetPlace, JobFilter, OverFleet, ShownJob};
use utoipa::ToSchema;
use uuid::Uuid;

use super::named::tenant_id;
use crate::{Services, caller::Caller, refusal};

const LIMIT_DEFAULT: i32 = 50;
const LIMIT_MAX: i32 = 200;

/// A job.
#[derive(Serialize, ToSchema)]
#[schema(as = Job)]
pub(crate) struct JobBody {
    tenant_id: Uuid,
    id: Uuid,
    kind: String,
    /// Shown to the tenant's own admins only.
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<String>,
    /// Who enqueued it, if a person did.
    account_id: Option<Uuid>,
    /// `waiting`, `running`, `dead` or `later`.
    state: &'static str,
    /// A schedule made it.
    scheduled: bool,
    priority: i16,
    run_at: DateTime<Utc>,
    attempt: i16,
    attempts_max: i16,
    unique_key: Option<String>,
    /// Why the last attempt failed.
    error: Option<String>,
    enqueued_at: DateTime<Utc>,
    failed_at: Option<DateTime<Utc>>,
}

impl From<ShownJob> for JobBody {
    fn from(shown: ShownJob) -> Self {
        let job = shown.job;
        Self {
            tenant_id: *job.tenant.as_uuid(),
            id: *job.id.as_uuid(),
            kind: job.kind,
            payload: shown.with_payload.then_some(job.payload),
            account_id: job.account.map(|account| *account.as_uuid()),
            state: job.state.as_str(),
            scheduled: job.scheduled,
            priority: job.priority,
            run_at: job.run_at,
            attempt: job.attempt,
            attempts_max: job.attempts_max,
            unique_key: job.unique_key,
            error: job.error,
            enqueued_at: job.enqueued_at,
            failed_at: job.failed_at,
        }
    }
}

/// Jobs, by tenant and age.
#[derive(Serialize, ToSchema)]
pub(crate) struct Jobs {
    items: Vec<JobBody>,
    /// To be sent as `cursor` with the same filters; null on the last page.
    next_cursor: Option<String>,
}

/// Jobs of every tenant, by database, tenant and age.
#[derive(Serialize, ToSchema)]
pub(crate) struct AllJobs {
    items: Vec<JobBody>,
    /// To be sent as `cursor` with the same filters; null on the last page. A page asks so many databases at most, and may have less than
    /// `limit` or nothing before the last one.
    next_cursor: Option<String>,
    /// Databases that did not answer, with the reason: their jobs are missing here.
    unreachable: Vec<String>,
}

/// How many jobs were changed.
#[derive(Serialize, ToSchema)]
pub(crate) struct ChangedJobs {
    jobs: u64,
    /// Databases that did not answer, with the reason: their jobs are as they were.
    unreachable: Vec<String>,
}

/// How many jobs were changed in the databases that were asked.
#[derive(Serialize, ToSchema)]
pub(crate) struct ChangedJobsOfAll {
    jobs: u64,
    /// Databases that did not answer, with the reason: their jobs are as they were.
    unreachable: Vec<String>,
    /// To be sent as `cursor` with the same kind, for the databases that were not asked yet; null where all were.
    next_cursor: Option<String>,
}

impl From<OverFleet<u64>> for ChangedJobsOfAll {
    fn from(changed: OverFleet<u64>) -> Self {
        Self {
            jobs: changed.found,
            unreachable: changed.unreachable,
            next_cursor: changed.next.map(|place| place.write()),
        }
    }
}

/// Which dead jobs.
#[derive(ToSchema)]
pub(crate) struct DeadJobs {
    /// Of this kind; of every kind where it is not named.
    #[schema(max_length = 200)]
    kind: Option<String>,
}

impl FromFields for DeadJobs {
    fn from_fields(fields: &mut Fields) -> Option<Self> {
        Some(Self {
            kind: fields.text("kind"),
        })
    }
}

/// Which dead jobs of every tenant.
#[derive(ToSchema)]
pub(crate) struct DeadJobsOfAll {
    /// Of this kind; of every kind where it is not named.
    #[schema(max_length = 200)]
    kind: Option<String>,
    /// The `next_cursor` of the answer before.
    #[schema(value_type = Option<String>)]
    cursor: Option<FleetPlace>,
}

impl FromFields for DeadJobsOfAll {
    fn from_fields(fields: &mut Fields) -> Option<Self> {
        Some(Self {
            kind: fields.text("kind"),
            cursor: read_cursor(fields)?,
        })
    }
}

/// A place in a list. It names a place and gives no right to anything, so it needs no seal.
pub(crate) trait Cursor: Sized {
    /// `None` for what no page has said.
    fn read(text: &str) -> Option<Self>;

    fn write(&self) -> String;
}

/// Of one tenant's jobs.
impl Cursor for (TenantId, JobId) {
    fn read(text: &str) -> Option<Self> {
        let (tenant, id) = text.split_once('.')?;
        Some((tenant.parse().ok()?, id.parse().ok()?))
    }

    fn write(&self) -> String {
        format!("{}.{}", self.0, self.1)
    }
}

/// Of every tenant's.
impl Cursor for FleetPlace {
    fn read(text: &str) -> Option<Self> {
        let (database, job) = match text.split_once('.') {
            Some((database, job)) => (database, Some(<(TenantId, JobId)>::read(job)?)),
            None => (text, None),
        };
        Some(Self {
            database: database.parse().ok()?,
            job,
        })
    }

    fn write(&self) -> String {
        match &self.job {
            Some(job) => format!("{}.{}", self.database, job.write()),
            None => self.database.to_string(),
        }
    }
}

/// `Some(None)` where none is named.
fn read_cursor<C: Cursor>(fields: &mut Fields) -> Option<Option<C>> {
    let Some(cursor) = fields.optional::<String>("cursor") else {
        return Some(None);
    };
    let place = C::read(&cursor);
    if place.is_none() {
        fields.invalid("cursor", "the `next_cursor` of a page");
    }
    place.map(Some)
}

/// Which jobs to list.
pub(crate) struct JobQuery<C> {
    states: Vec<JobState>,
    kind: Option<String>,
    limit: i32,
    after: Option<C>,
}

impl<C: Cursor> FromFields for JobQuery<C> {
    fn from_fields(fields: &mut Fields) -> Option<Self> {
        let states = match fields.optional::<JobState>("state") {
            Some(state) => vec![state],
            None => JobState::ALL.to_vec(),
        };
        let kind = fields.text("kind");
        let limit = match fields.optional::<String>("limit").map(|text| text.parse()) {
            None => Some(LIMIT_DEFAULT),
            Some(Ok(limit)) if (1..=LIMIT_MAX).contains(&limit) => Some(limit),
            Some(_) => {
                fields.invalid("limit", format!("a whole number from 1 to {LIMIT_MAX}"));
                None
            }
        };
        let after = read_cursor(fields);
        Some(Self {
            states,
            kind,
            limit: limit?,
            after: after?,
        })
    }
}

impl JobQuery<(TenantId, JobId)> {
    fn filter(&self) -> JobFilter<'_> {
        JobFilter {
            states: &self.states,
            kind: self.kind.as_deref(),
            after: self.after,
        }
    }

    /// One more than is shown, to see whether another page follows.
    fn limit(&self) -> i32 {
        self.limit + 1
    }

    fn page(&self, mut found: Vec<ShownJob>) -> Jobs {
        let limit = usize::try_from(self.limit).unwrap_or_default();
        let follows = found.len() > limit;
        found.truncate(limit);
        let last = found.last().filter(|_| follows);
        let next_cursor = last.map(|shown| (shown.job.tenant, shown.job.id).write());
        Jobs {
            items: found.into_iter().map(JobBody::from).collect(),
            next_cursor,
        }
    }
}

/// What stands in the path: the tenant's id or slug, and the job's id.
#[derive(Deserialize)]
pub(crate) struct JobPath {
    id: String,
    job: JobId,
}

/// List the jobs of a tenant, the oldest first: what waits, runs, is not due yet, or is dead and why.
#[utoipa::path(get, path = "/v1/tenants/{id}/jobs", tag = "jobs",
    params(("id" = String, Path, description = "Id or slug"), ("state" = Option<String>, Query), ("kind" = Option<String>, Query),
        ("limit" = Option<i32>, Query, minimum = 1, maximum = 200), ("cursor" = Option<String>, Query)),
    responses((status = 200, body = Jobs)))]
pub(crate) async fn list_jobs(
    State(services): State<Services>,
    Caller(authority): Caller,
    Path(tenant): Path<String>,
    Query(query): Query<JobQuery<(TenantId, JobId)>>,
) -> Result<Json<Jobs>, Problem> {
    let tenant = tenant_id(&services, &authority, &tenant).await?;
    let found = services
        .ops
        .list_jobs(&authority, tenant, &query.filter(), query.limit())
        .await
        .map_err(refusal::of_job)?;
    Ok(Json(query.page(found)))
}

/// Let all dead jobs of a tenant begin anew, or those of one kind.
#[utoipa::path(post, path = "/v1/tenants/{id}/jobs/retry", tag = "jobs", params(("id" = String, Path, description = "Id or slug")),
    request_body = DeadJobs, responses((status = 200, body = ChangedJobs)))]
pub(crate) async fn retry_jobs(
    State(services): State<Services>,
    Caller(authority): Caller,
    Path(tenant): Path<String>,
    Body(dead): Body<DeadJobs>,
) -> Result<Json<ChangedJobs>, Problem> {
    let tenant = tenant_id(&services, &authority, &tenant).await?;
    let jobs = services
        .ops
        .retry_jobs(&authority, tenant, None, dead.kind.as_deref())
        .await
        .map_err(refusal::of_job)?;
    Ok(Json(ChangedJobs {
        jobs,
        unreachable: Vec::new(),
    }))
}

/// Let a dead job begin anew, with all its attempts.
#[utoipa::path(post, path = "/v1/tenants/{id}/jobs/{job}/retry", tag = "jobs",
    params(("id" = String, Path, description = "Id or slug"), ("job" = Uuid, Path)), responses((status = 204), (status = 404)))]
pub(crate) async fn retry_job(
    State(services): State<Services>,
    Caller(authority): Caller,
    Path(JobPath { id, job }): Path<JobPath>,
) -> Result<StatusCode, Problem> {
    let tenant = tenant_id(&services, &authority, &id).await?;
    let retried = services.ops.retry_jobs(&authority, tenant, Some(job), None).await;
    retried.map_err(refusal::of_job)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Take out a job that does not run.
#[utoipa::path(delete, path = "/v1/tenants/{id}/jobs/{job}", tag = "jobs",
    params(("id" = String, Path, description = "Id or slug"), ("job" = Uuid, Path)), responses((status = 204), (status = 404)))]
pub(crate) async fn remove_job(
    State(services): State<Services>,
    Caller(authority): Caller,
    Path(JobPath { id, job }): Path<JobPath>,
) -> Result<StatusCode, Problem> {
    let tenant = tenant_id(&services, &authority, &id).await?;
    let removed = services.ops.remove_jobs(&authority, tenant, Some(job), None).await;
    removed.map_err(refusal::of_job)?;
    Ok(StatusCode::NO_CONTENT)
}

/// List the jobs of every tenant, by database, tenant and age.
#[utoipa::path(get, path = "/v1/jobs", tag = "jobs",
    params(("state" = Option<String>, Query), ("kind" = Option<String>, Query),
        ("limit" = Option<i32>, Query, minimum = 1, maximum = 200), ("cursor" = Option<String>, Query)),
    responses((status = 200, body = AllJobs)))]
pub(crate) async fn list_all_jobs(
    State(services): State<Services>,
    Caller(authority): Caller,
    Query(query): Query<JobQuery<FleetPlace>>,
) -> Result<Json<AllJobs>, Problem> {
    let filter = JobFilter {
        states: &query.states,
        kind: query.kind.as_deref(),
        after: None,
    };
    let asked = services
        .ops
        .list_all_jobs(&authority, &filter, query.after, query.limit)
        .await
        .map_err(refusal::of_job)?;
    Ok(Json(AllJobs {
        items: asked.found.into_iter().map(JobBody::from).collect(),
        next_cursor: asked.next.map(|place| place.write()),
        unreachable: asked.unreachable,
    }))
}

/// Let all dead jobs of every tenant begin anew, or those of one kind. A request asks so many databases at most; `next_cursor` goes on.
#[utoipa::path(post, path = "/v1/jobs/retry", tag = "jobs", request_body = DeadJobsOfAll,
    responses((status = 200, body = ChangedJobsOfAll)))]
pub(crate) async fn retry_all_jobs(
    State(services): State<Services>,
    Caller(authority): Caller,
    Body(dead): Body<DeadJobsOfAll>,
) -> Result<Json<ChangedJobsOfAll>, Problem> {
    let retried = services
        .ops
        .retry_all_jobs(&authority, dead.kind.as_deref(), dead.cursor)
        .await;
    Ok(Json(retried.map_err(refusal::of_job)?.into()))
}
