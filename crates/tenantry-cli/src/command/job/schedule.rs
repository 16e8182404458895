//! `tenantry job schedules` and `unschedule`: what makes a tenant's jobs by the clock.

use chrono::{DateTime, Utc};
use clap::Args;
use serde::Serialize;
use serde_json::json;
use tenantry_core::AccountId;
use tenantry_ops::{Ops, StoredSchedule};

use crate::{
    connect::authority,
    failure::Failure,
    lookup::tenant_id,
    output::{Answer, Done, List, Output, table, time},
};

/// Whose schedules.
#[derive(Args, Debug)]
pub(crate) struct Schedules {
    /// The tenant's slug or id
    tenant: String,
}

/// Which schedule to end.
#[derive(Args, Debug)]
pub(crate) struct Unschedule {
    /// The tenant's slug or id
    tenant: String,
    /// The schedule's name
    schedule: String,
}

/// A schedule, with the names that the HTTP interface uses.
#[derive(Serialize)]
struct Shown {
    name: String,
    everyone: bool,
    cron: String,
    zone: String,
    missed: &'static str,
    kind: String,
    account_id: Option<AccountId>,
    priority: i16,
    attempts_max: i16,
    next_at: Option<DateTime<Utc>>,
    broken: Option<String>,
    made_at: DateTime<Utc>,
}

impl From<StoredSchedule> for Shown {
    fn from(schedule: StoredSchedule) -> Self {
        Self {
            name: schedule.name,
            everyone: schedule.everyone,
            cron: schedule.cron,
            zone: schedule.zone,
            missed: if schedule.makes_up { "once" } else { "skip" },
            kind: schedule.kind,
            account_id: schedule.account,
            priority: schedule.priority,
            attempts_max: schedule.attempts_max,
            next_at: schedule.next_at,
            broken: schedule.broken,
            made_at: schedule.made_at,
        }
    }
}

impl Shown {
    /// When its next job is due, as far as anybody knows.
    fn next(&self) -> String {
        match (&self.broken, self.next_at) {
            (Some(_), _) => "never".to_owned(),
            (None, Some(at)) => time(at),
            (None, None) => "when a worker has looked".to_owned(),
        }
    }
}

impl Answer for List<Shown> {
    fn text(&self) -> String {
        let rows = self.items.iter().map(|schedule| {
            [
                schedule.name.clone(),
                if schedule.everyone {
                    "every tenant"
                } else {
                    "the tenant"
                }
                .to_owned(),
                schedule.cron.clone(),
                schedule.zone.clone(),
                schedule.kind.clone(),
                schedule.next(),
                schedule.broken.clone().unwrap_or_default(),
            ]
        });
        table(["schedule", "of", "cron", "zone", "kind", "next", "broken"], rows)
    }
}

pub(super) async fn list(ops: &Ops, wish: &Schedules, output: Output) -> Result<(), Failure> {
    let tenant = tenant_id(ops, &wish.tenant).await?;
    let found = ops.list_schedules(&authority(), tenant).await?;
    let items = found.into_iter().map(Shown::from).collect();
    Ok(output.answer(&List { items })?)
}

pub(super) async fn remove(ops: &Ops, wish: &Unschedule, output: Output) -> Result<(), Failure> {
    let tenant = tenant_id(ops, &wish.tenant).await?;
    ops.remove_schedule(&authority(), tenant, &wish.schedule).await?;
    let done = Done {
        text: format!("the schedule {} is ended; jobs that it has made stay", wish.schedule),
        json: json!({ "removed": wish.schedule }),
    };
    Ok(output.answer(&done)?)
}
