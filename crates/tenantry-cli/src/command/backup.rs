//! `tenantry backup`: copies of single tenants in an object store, and back.

use std::time::Duration;

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use serde::Serialize;
use tenantry_core::{Isolation, Slug, TenantId};
use tenantry_ops::{Backup, Operation, Ops, RestoreRequest, Tenant, TenantRef};
use uuid::Uuid;

use super::tenant;
use crate::{
    config::Config,
    connect::{self, authority},
    failure::Failure,
    lookup::parse_id,
    output::{Answer, Done, List as Items, Output, fields, table, time},
    progress::Progress,
};

const HOUR_S: f64 = 3600.0;

/// What to do with backups.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Back a tenant up now
    Create(Named),
    /// List the backups that are kept, the newest first
    List(List),
    /// Read a backup, and verify every byte, count and checksum of it
    Verify(One),
    /// Make a tenant of a backup, beside the one that it is of, or put it in that one's place
    Restore(Restore),
    /// Prove that a tenant's newest backup restores: into a tenant that is removed again
    Drill(Named),
    /// Show how often `serve` backs a tenant up, or have it do so as often as this tenant wants
    Schedule(Schedule),
    /// Remove the backups that the retention keeps no more, and what failed ones left
    Prune,
}

/// A tenant.
#[derive(Args, Debug)]
pub(crate) struct Named {
    /// The tenant's slug or id
    tenant: String,
}

/// A backup.
#[derive(Args, Debug)]
pub(crate) struct One {
    /// The backup's id, as `list` shows it
    #[arg(value_parser = parse_id)]
    backup: Uuid,
}

/// Which backups to list.
#[derive(Args, Debug)]
pub(crate) struct List {
    /// Only those of this tenant, by slug or id
    tenant: Option<String>,
}

/// The backup to restore.
#[derive(Args, Debug)]
pub(crate) struct Restore {
    /// The backup's id, as `list` shows it
    #[arg(value_parser = parse_id)]
    backup: Uuid,
    /// The label of the new tenant with its rows
    #[arg(long, required_unless_present = "in_place", conflicts_with = "in_place")]
    slug: Option<Slug>,
    /// How the new tenant's rows are kept apart: shared, schema or database [default: as they were]
    #[arg(long, conflicts_with = "in_place")]
    isolation: Option<Isolation>,
    /// The server to place the new tenant on, by name or id
    #[arg(long, conflicts_with = "in_place")]
    server: Option<String>,
    /// Replace the rows that the tenant has by those of the backup; it is suspended meanwhile
    #[arg(long, requires = "yes")]
    in_place: bool,
    /// Do not ask: what the tenant wrote since the backup is lost
    #[arg(long)]
    yes: bool,
}

/// How often a tenant is backed up.
#[derive(Args, Debug)]
pub(crate) struct Schedule {
    /// The tenant's slug or id
    tenant: String,
    /// How old its newest backup gets before another is made, in hours or parts of one; 0 for never
    #[arg(long, value_name = "HOURS", value_parser = parse_hours)]
    interval_h: Option<Duration>,
    /// As often as the fleet again (`backup_interval_h`)
    #[arg(long, conflicts_with = "interval_h")]
    as_fleet: bool,
}

fn parse_hours(text: &str) -> Result<Duration, String> {
    let hours: Option<f64> = text.parse().ok();
    hours
        .and_then(|hours| Duration::try_from_secs_f64(hours * HOUR_S).ok())
        .ok_or_else(|| "hours or parts of one, as 0.5; 0 for never".to_owned())
}

#[derive(Serialize)]
struct Scheduled {
    tenant: String,
    interval_h: f64,
    own: bool,
}

impl Answer for Scheduled {
    fn text(&self) -> String {
        let whose = if self.own { "its own" } else { "the fleet's" };
        let every = match self.interval_h {
            0.0 => "never by the clock".to_owned(),
            hours => format!("every {hours} h"),
        };
        format!("{} is backed up {every} ({whose} interval)", self.tenant)
    }
}

#[derive(Serialize)]
struct Shown {
    id: Uuid,
    tenant: TenantId,
    taken_at: DateTime<Utc>,
    bytes: i64,
    rows: i64,
    digest: String,
    drilled_at: Option<DateTime<Utc>>,
}

impl From<Backup> for Shown {
    fn from(backup: Backup) -> Self {
        Self {
            id: backup.id,
            tenant: backup.tenant,
            taken_at: backup.taken_at,
            bytes: backup.bytes,
            rows: backup.rows,
            digest: backup.digest,
            drilled_at: backup.drilled_at,
        }
    }
}

impl Answer for Shown {
    fn text(&self) -> String {
        fields([
            ("id", self.id.to_string()),
            ("tenant", self.tenant.to_string()),
            ("as of", time(self.taken_at)),
            ("rows", self.rows.to_string()),
            ("bytes", self.bytes.to_string()),
            ("drilled", self.drilled_at.map_or_else(|| "never".to_owned(), time)),
        ])
    }
}

impl Answer for Items<Shown> {
    fn text(&self) -> String {
        let rows = self.items.iter().map(|backup| {
            [
                backup.id.to_string(),
                backup.tenant.to_string(),
                time(backup.taken_at),
                backup.rows.to_string(),
                backup.bytes.to_string(),
                backup.drilled_at.map_or_else(|| "never".to_owned(), time),
            ]
        });
        table(["backup", "tenant", "as of", "rows", "bytes", "drilled"], rows)
    }
}

/// Runs the command.
pub(super) async fn run(command: Command, config: &Config, output: Output) -> Result<(), Failure> {
    let ops = connect::ops(config).await?;
    let by = authority();
    let progress = Progress::start(output);
    match command {
        Command::Create(named) => {
            progress.step(format!("backing up {}", named.tenant));
            let made = ops.create_backup(&by, &TenantRef::parse(&named.tenant)).await;
            progress.end();
            Ok(output.answer(&Shown::from(made?))?)
        }
        Command::List(list) => {
            let tenant = list.tenant.as_deref().map(TenantRef::parse);
            let listed = ops.list_backups(&by, tenant.as_ref()).await?;
            let items = listed.into_iter().map(Shown::from).collect();
            Ok(output.answer(&Items { items })?)
        }
        Command::Verify(one) => {
            progress.step("verifying");
            let verified = ops.verify_backup(&by, one.backup).await;
            progress.end();
            Ok(output.answer(&Shown::from(verified?))?)
        }
        Command::Restore(restore) => run_restore(&ops, restore, &progress, output).await,
        Command::Drill(named) => {
            progress.step(format!("restoring the newest backup of {}", named.tenant));
            let drilled = ops.drill_backup(&by, &TenantRef::parse(&named.tenant)).await;
            progress.end();
            let drilled = drilled?;
            let took_ms = drilled.took.as_millis();
            Ok(output.answer(&Done {
                text: format!("backup {} restores: {} rows, verified, in {took_ms} ms", drilled.backup.id, drilled.rows),
                json: serde_json::json!({
                    "backup": drilled.backup.id, "rows": drilled.rows, "took_ms": took_ms, "taken_at": drilled.backup.taken_at
                }),
            })?)
        }
        Command::Schedule(asked) => {
            let tenant = TenantRef::parse(&asked.tenant);
            let schedule = match asked.interval_h {
                None if !asked.as_fleet => ops.get_backup_schedule(&by, &tenant).await,
                interval => ops.set_backup_schedule(&by, &tenant, interval).await,
            }?;
            Ok(output.answer(&Scheduled {
                tenant: asked.tenant,
                interval_h: schedule.interval.as_secs_f64() / HOUR_S,
                own: schedule.own,
            })?)
        }
        Command::Prune => {
            let removed = ops.remove_old_backups(&by).await?;
            Ok(output.answer(&Done {
                text: format!("{removed} removed"),
                json: serde_json::json!({ "removed": removed }),
            })?)
        }
    }
}

async fn run_restore(ops: &Ops, restore: Restore, progress: &Progress, output: Output) -> Result<(), Failure> {
    progress.step("restoring");
    let restored = match restore.slug {
        Some(slug) => {
            let mut request = RestoreRequest::new(restore.backup, slug);
            request.isolation = restore.isolation;
            request.server = restore.server;
            ops.restore_backup(&authority(), &request).await
        }
        None => {
            let told = |operation: &Operation| progress.step(tenant::restoring(operation));
            ops.restore_backup_in_place_told(&authority(), restore.backup, &told)
                .await
        }
    };
    progress.end();
    Ok(output.answer(&self::restored(restored?, restore.backup))?)
}

/// The tenant with a backup's rows.
pub(super) fn restored(tenant: Tenant, backup: Uuid) -> Done {
    Done {
        text: format!("{} ({}) has the rows of backup {backup}", tenant.slug, tenant.id),
        json: serde_json::json!({
            "backup": backup, "id": tenant.id, "slug": tenant.slug, "state": tenant.state,
            "isolation": tenant.placement.map(|placement| placement.isolation)
        }),
    }
}
