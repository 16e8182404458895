//! Tenants' schedules, as whoever administers their database sees them.

use chrono::{DateTime, Utc};
use tenantry_core::{AccountId, TenantId};
use tokio_postgres::{Client, Row};
use uuid::Uuid;

use crate::sql_error::{Doing, SqlError};

/// A schedule as it is stored, but for what its jobs are made with: that is the tenant's own data.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StoredSchedule {
    /// Its name: unique among the tenant's own, and among those of everyone.
    pub name: String,
    /// A program declares it for every tenant; else it is the tenant's own.
    pub everyone: bool,
    /// The cron expression.
    pub cron: String,
    /// The time zone.
    pub zone: String,
    /// One job makes up for all times that were missed; else none does.
    pub makes_up: bool,
    /// What its jobs do.
    pub kind: String,
    /// Who set it, if a person did.
    pub account: Option<AccountId>,
    /// The priority of its jobs.
    pub priority: i16,
    /// How often each is tried at most.
    pub attempts_max: i16,
    /// The next due time; `None` before a worker has looked at it.
    pub next_at: Option<DateTime<Utc>>,
    /// Why no worker makes its jobs.
    pub broken: Option<String>,
    /// When it was first set.
    pub made_at: DateTime<Utc>,
}

impl StoredSchedule {
    fn of(row: &Row) -> Self {
        Self {
            name: row.get("name"),
            everyone: row.get("everyone"),
            cron: row.get("cron"),
            zone: row.get("zone"),
            makes_up: row.get::<_, i16>("missed") != 0,
            kind: row.get("kind"),
            account: row.get::<_, Option<Uuid>>("account").map(AccountId::from_uuid),
            priority: row.get("priority"),
            attempts_max: row.get("attempts_max"),
            next_at: row.get("next_at"),
            broken: row.get("broken"),
            made_at: row.get("made_at"),
        }
    }
}

/// A tenant's own schedules, and after them those that programs declare for every tenant, each by name.
///
/// # Errors
///
/// Where the statement fails.
pub async fn list_schedules(client: &Client, tenant: TenantId) -> Result<Vec<StoredSchedule>, SqlError> {
    let rows = client
        .query("select * from tenantry_private.schedule_list($1)", &[tenant.as_uuid()])
        .await
        .doing("list schedules")?;
    Ok(rows.iter().map(StoredSchedule::of).collect())
}

/// Ends one of a tenant's own schedules; jobs that it has made stay. Tells whether there was one.
///
/// # Errors
///
/// Where the statement fails.
///
/// # Cancel safety
///
/// Dropped, it is not known whether it is gone, and asking again does no harm.
pub async fn remove_schedule(client: &Client, tenant: TenantId, name: &str) -> Result<bool, SqlError> {
    let row = client
        .query_one(
            "select tenantry_private.schedule_remove($1, $2)",
            &[tenant.as_uuid(), &name],
        )
        .await
        .doing("remove a schedule")?;
    Ok(row.get(0))
}
