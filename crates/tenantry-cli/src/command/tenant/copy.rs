//! `tenantry tenant clone`: a tenant with another's rows.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use tenantry_core::{Isolation, Slug, TenantName};
use tenantry_ops::{CloneRequest, IdPlan, Masks, Ops, RowIds, Tenant, TenantRef};

use super::ids;
use crate::{connect::authority, failure::Failure, output::Output, progress::Progress};

/// The tenant to clone.
#[derive(Args, Debug)]
pub(crate) struct Clone {
    /// The slug or id of the tenant with the rows
    tenant: String,
    /// The new tenant's label
    #[arg(long)]
    slug: Slug,
    /// What people call it [default: as the first one]
    #[arg(long)]
    name: Option<TenantName>,
    /// How its rows are kept apart: shared, schema or database [default: as the first one's]
    #[arg(long)]
    isolation: Option<Isolation>,
    /// The server to place it on, by name or id
    #[arg(long)]
    server: Option<String>,
    /// A TOML file that says which values are replaced: a table per table, a key per column, and for it "null", "hash",
    /// "email", "name" or { fixed = "…" }
    #[arg(long, value_name = "FILE")]
    mask: Option<PathBuf>,
    #[command(flatten)]
    ids: ids::NewIds,
}

pub(super) async fn run(ops: &Ops, clone: Clone, output: Output) -> Result<(Tenant, Option<IdPlan>), Failure> {
    let mut request = CloneRequest::new(clone.slug);
    request.name = clone.name;
    request.isolation = clone.isolation;
    request.server = clone.server;
    if let Some(file) = &clone.mask {
        request.masks = masks(file)?;
    }
    request.ids = clone.ids.wanted();
    let tenant = TenantRef::parse(&clone.tenant);
    let plan = match request.ids {
        RowIds::Kept => None,
        _ => ops.plan_clone_ids(&authority(), &tenant, &request).await?,
    };
    if let Some(plan) = &plan {
        ids::tell(plan);
    }
    let progress = Progress::start(output);
    progress.step(format!("cloning {} as {}", clone.tenant, request.slug));
    let cloned = ops.clone_tenant(&authority(), &tenant, &request).await;
    progress.end();
    Ok((cloned?, plan))
}

fn masks(file: &Path) -> Result<Masks, Failure> {
    let text = std::fs::read_to_string(file).with_context(|| format!("{} can't be read", file.display()))?;
    toml::from_str(&text).map_err(|error| Failure::usage(format!("{}: {}", file.display(), error.message())))
}
