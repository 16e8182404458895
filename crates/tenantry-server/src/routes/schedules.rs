//! Schedules of a tenant.

use axum::{Json, extract::State, http::StatusCode};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tenantry::axum::{Path, Problem};
use tenantry_ops::StoredSchedule;
use utoipa::ToSchema;
use uuid::Uuid;

use super::named::tenant_id;
use crate::{Services, caller::Caller, refusal};

/// A schedule.
#[derive(Serialize, ToSchema)]
#[schema(as = Schedule)]
pub(crate) struct ScheduleBody {
    name: String,
    /// A program declares it for every tenant; else it is the tenant's own.
    everyone: bool,
    cron: String,
    zone: String,
    /// What becomes of missed times: `once` for one job for all of them, `skip` for none.
    missed: &'static str,
    /// Of the jobs that it makes.
    kind: String,
    /// Who set it, if a person did.
    account_id: Option<Uuid>,
    priority: i16,
    attempts_max: i16,
    /// The next due time; null before a worker has looked at it, and where it is broken.
    next_at: Option<DateTime<Utc>>,
    /// Why no worker makes its jobs.
    broken: Option<String>,
    made_at: DateTime<Utc>,
}

impl From<StoredSchedule> for ScheduleBody {
    fn from(schedule: StoredSchedule) -> Self {
        Self {
            name: schedule.name,
            everyone: schedule.everyone,
            cron: schedule.cron,
            zone: schedule.zone,
            missed: if schedule.makes_up { "once" } else { "skip" },
            kind: schedule.kind,
            account_id: schedule.account.map(|account| *account.as_uuid()),
            priority: schedule.priority,
            attempts_max: schedule.attempts_max,
            next_at: schedule.next_at,
            broken: schedule.broken,
            made_at: schedule.made_at,
        }
    }
}

/// A tenant's own schedules, and after them those that programs declare for every tenant, each by name.
#[derive(Serialize, ToSchema)]
pub(crate) struct Schedules {
    items: Vec<ScheduleBody>,
}

/// What stands in the path: the tenant's id or slug, and the schedule's name.
#[derive(Deserialize)]
pub(crate) struct SchedulePath {
    id: String,
    schedule: String,
}

/// List the schedules of a tenant: when their next jobs are due, or why they make none.
#[utoipa::path(get, path = "/v1/tenants/{id}/schedules", tag = "jobs", params(("id" = String, Path, description = "Id or slug")),
    responses((status = 200, body = Schedules)))]
pub(crate) async fn list_schedules(
    State(services): State<Services>,
    Caller(authority): Caller,
    Path(tenant): Path<String>,
) -> Result<Json<Schedules>, Problem> {
    let tenant = tenant_id(&services, &authority, &tenant).await?;
    let found = services.ops.list_schedules(&authority, tenant).await;
    let items = found.map_err(refusal::of_job)?;
    Ok(Json(Schedules {
        items: items.into_iter().map(ScheduleBody::from).collect(),
    }))
}

/// End one of the tenant's own schedules. Jobs that it has made stay.
#[utoipa::path(delete, path = "/v1/tenants/{id}/schedules/{schedule}", tag = "jobs",
    params(("id" = String, Path, description = "Id or slug"), ("schedule" = String, Path, description = "The schedule's name")),
    responses((status = 204), (status = 404)))]
pub(crate) async fn remove_schedule(
    State(services): State<Services>,
    Caller(authority): Caller,
    Path(SchedulePath { id, schedule }): Path<SchedulePath>,
) -> Result<StatusCode, Problem> {
    let tenant = tenant_id(&services, &authority, &id).await?;
    let removed = services.ops.remove_schedule(&authority, tenant, &schedule).await;
    removed.map_err(refusal::of_job)?;
    Ok(StatusCode::NO_CONTENT)
}
