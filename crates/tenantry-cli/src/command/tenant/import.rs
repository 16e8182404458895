//! `tenantry tenant import`: an archive becomes a tenant.

use std::path::PathBuf;

use clap::Args;
use tenantry_core::{Isolation, Plan, Slug, TenantName};
use tenantry_ops::{IdPlan, ImportRequest, Ops, RowIds, Signer, Tenant};

use super::ids;
use crate::{connect::authority, failure::Failure, output::Output, progress::Progress};

/// The archive to import.
#[derive(Args, Debug)]
pub(crate) struct Import {
    /// The archive, as `tenant export` wrote it
    file: PathBuf,
    /// The tenant's label [default: the archive's]
    #[arg(long)]
    slug: Option<Slug>,
    /// What people call it [default: the archive's]
    #[arg(long)]
    name: Option<TenantName>,
    /// How its rows are kept apart: shared, schema or database [default: as they were]
    #[arg(long)]
    isolation: Option<Isolation>,
    /// The server to place it on, by name or id
    #[arg(long)]
    server: Option<String>,
    /// The region to place it in
    #[arg(long)]
    region: Option<String>,
    /// Its plan [default: the archive's]
    #[arg(long)]
    plan: Option<Plan>,
    /// Give it a new id; this is the default
    #[arg(long, conflicts_with = "same_id")]
    as_new: bool,
    /// Give it the id that it had, if nobody has it here
    #[arg(long)]
    same_id: bool,
    #[command(flatten)]
    ids: ids::NewIds,
    /// Trust this signer too: the public key that `tenant export` printed where the archive was made
    #[arg(long, value_name = "KEY")]
    signed_by: Vec<Signer>,
}

pub(super) async fn run(ops: &Ops, import: Import, output: Output) -> Result<(Tenant, Option<IdPlan>), Failure> {
    let mut request = ImportRequest::new(import.file);
    request.slug = import.slug;
    request.name = import.name;
    request.isolation = import.isolation;
    request.server = import.server;
    request.region = import.region;
    request.plan = import.plan;
    request.same_id = import.same_id;
    request.ids = import.ids.wanted();
    request.signed_by = import.signed_by;
    let plan = match request.ids {
        RowIds::Kept => None,
        _ => ops.plan_import_ids(&authority(), &request).await?,
    };
    if let Some(plan) = &plan {
        ids::tell(plan);
    }
    let progress = Progress::start(output);
    progress.step(format!("importing {}", request.path.display()));
    let imported = ops.import_tenant(&authority(), &request).await;
    progress.end();
    Ok((imported?, plan))
}
