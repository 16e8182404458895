//! How often a tenant is backed up.

use std::time::Duration;

use axum::{Json, extract::State, http::StatusCode};
use serde::Serialize;
use tenantry::axum::{Body, Fields, FromFields, Path, Problem};
use tenantry_ops::BackupSchedule;
use utoipa::ToSchema;

use super::named::named;
use crate::{Services, caller::Caller, refusal};

const HOUR_S: f64 = 3600.0;

/// How often a tenant is backed up.
#[derive(Serialize, ToSchema)]
#[schema(as = BackupSchedule)]
pub(crate) struct BackupScheduleBody {
    /// How old its newest backup gets before another is made, in hours or parts of one; 0 for never.
    interval_h: f64,
    /// Whether that is its own, and not the fleet's.
    own: bool,
}

impl From<BackupSchedule> for BackupScheduleBody {
    fn from(schedule: BackupSchedule) -> Self {
        Self {
            interval_h: schedule.interval.as_secs_f64() / HOUR_S,
            own: schedule.own,
        }
    }
}

/// An interval of the tenant's own.
#[derive(ToSchema)]
#[schema(as = NewBackupSchedule)]
#[expect(dead_code, reason = "describes what `NewScheduleBody` reads")]
pub(crate) struct NewScheduleSchema {
    /// In hours or parts of one, from half a minute to ten years; 0 for never.
    #[schema(minimum = 0)]
    interval_h: f64,
}

/// What is read of [`NewScheduleSchema`].
pub(crate) struct NewScheduleBody(Duration);

impl FromFields for NewScheduleBody {
    fn from_fields(fields: &mut Fields) -> Option<Self> {
        let hours: f64 = fields.required("interval_h")?;
        let interval = Duration::try_from_secs_f64(hours * HOUR_S).ok();
        if interval.is_none() {
            fields.invalid("interval_h", "hours, or 0 for never");
        }
        interval.map(Self)
    }
}

/// How often a tenant is backed up.
#[utoipa::path(get, path = "/v1/tenants/{id}/backup-schedule", tag = "backups",
    params(("id" = String, Path, description = "Id or slug")), responses((status = 200, body = BackupScheduleBody)))]
pub(crate) async fn get_backup_schedule(
    State(services): State<Services>,
    Caller(authority): Caller,
    Path(tenant): Path<String>,
) -> Result<Json<BackupScheduleBody>, Problem> {
    let schedule = services.ops.get_backup_schedule(&authority, &named(&tenant)?).await;
    Ok(Json(schedule.map_err(refusal::of_backup)?.into()))
}

/// Have a tenant backed up at an interval of its own instead of the fleet's.
#[utoipa::path(put, path = "/v1/tenants/{id}/backup-schedule", tag = "backups", request_body = NewScheduleSchema,
    params(("id" = String, Path, description = "Id or slug")),
    responses((status = 200, body = BackupScheduleBody), (status = 409), (status = 422)))]
pub(crate) async fn set_backup_schedule(
    State(services): State<Services>,
    Caller(authority): Caller,
    Path(tenant): Path<String>,
    Body(NewScheduleBody(interval)): Body<NewScheduleBody>,
) -> Result<Json<BackupScheduleBody>, Problem> {
    let set = services
        .ops
        .set_backup_schedule(&authority, &named(&tenant)?, Some(interval))
        .await;
    Ok(Json(set.map_err(refusal::of_backup)?.into()))
}

/// Have a tenant backed up as often as the fleet again.
#[utoipa::path(delete, path = "/v1/tenants/{id}/backup-schedule", tag = "backups",
    params(("id" = String, Path, description = "Id or slug")), responses((status = 204), (status = 409)))]
pub(crate) async fn remove_backup_schedule(
    State(services): State<Services>,
    Caller(authority): Caller,
    Path(tenant): Path<String>,
) -> Result<StatusCode, Problem> {
    let set = services
        .ops
        .set_backup_schedule(&authority, &named(&tenant)?, None)
        .await;
    set.map_err(refusal::of_backup)?;
    Ok(StatusCode::NO_CONTENT)
}
