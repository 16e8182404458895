//! `tenantry tenant restore`: a tenant's rows as a backup of it has them.

use clap::Args;
use tenantry_core::{Isolation, Slug};
use tenantry_ops::{Backup, BackupAt, Operation, Ops, RestoreRequest, Tenant, TenantRef};

use crate::{
    command::backup,
    connect::authority,
    failure::Failure,
    output::{Output, time},
    progress::Progress,
};

/// What to restore, and where.
#[derive(Args, Debug)]
pub(crate) struct Restore {
    /// The tenant's slug or id
    tenant: String,
    /// Which backup: `latest`, the newest as of a time or before, as 2026-11-29T10:00:00Z, or one by its id
    #[arg(long, value_name = "BACKUP")]
    at: BackupAt,
    /// The label of a new tenant with the backup's rows, beside this one
    #[arg(long, required_unless_present = "in_place", conflicts_with = "in_place")]
    slug: Option<Slug>,
    /// How the new tenant's rows are kept apart: shared, schema or database [default: as they were]
    #[arg(long, conflicts_with = "in_place")]
    isolation: Option<Isolation>,
    /// The server to place the new tenant on, by name or id
    #[arg(long, conflicts_with = "in_place")]
    server: Option<String>,
    /// Replace the rows that the tenant has by those of the backup; it is suspended meanwhile
    #[arg(long)]
    in_place: bool,
    /// Do not ask: what the tenant wrote since the backup is lost
    #[arg(long)]
    yes: bool,
}

pub(super) async fn run(ops: &Ops, restore: Restore, output: Output) -> Result<(), Failure> {
    let tenant = TenantRef::parse(&restore.tenant);
    let found = ops.find_backup_at(&authority(), &tenant, restore.at).await?;
    let id = found.id;
    let restored = match restore.slug {
        Some(slug) => {
            let mut request = RestoreRequest::new(id, slug);
            request.isolation = restore.isolation;
            request.server = restore.server;
            let progress = started(&found, output);
            let restored = ops.restore_backup(&authority(), &request).await;
            progress.end();
            restored?
        }
        None => in_place(ops, &tenant, &found, restore.yes, output).await?,
    };
    Ok(output.answer(&backup::restored(restored, id))?)
}

async fn in_place(ops: &Ops, tenant: &TenantRef, found: &Backup, yes: bool, output: Output) -> Result<Tenant, Failure> {
    let slug = ops.get_tenant(&authority(), tenant).await?.slug;
    let act = format!(
        "This replaces all rows of {slug} by those of backup {}, as of {} UTC: what was written since is lost.",
        found.id,
        time(found.taken_at)
    );
    if !yes && !super::confirmed(&act, &slug, output)? {
        return Err(Failure::usage(
            "nothing was restored: add --yes to replace the tenant's rows, or restore beside it with --slug",
        ));
    }
    let progress = started(found, output);
    let told = |operation: &Operation| progress.step(now(operation));
    let restored = ops.restore_backup_in_place_told(&authority(), found.id, &told).await;
    progress.end();
    Ok(restored?)
}

/// What is being done by a restore in a tenant's place, for who watches.
pub(in crate::command) fn now(operation: &Operation) -> String {
    let figure = |name: &str| operation.progress[name].as_u64().unwrap_or_default();
    match operation.step.as_str() {
        "" | "fence" => "suspending the tenant".to_owned(),
        "drain" => "waiting for open transactions".to_owned(),
        "load" => format!("restoring: {} of {} rows", figure("rows"), figure("rows_of")),
        _ => "letting the tenant in again".to_owned(),
    }
}

fn started(found: &Backup, output: Output) -> Progress {
    let progress = Progress::start(output);
    progress.step(format!("restoring the backup of {} UTC", time(found.taken_at)));
    progress
}
