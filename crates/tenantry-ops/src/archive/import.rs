//! An archive into a new tenant.

use std::path::{Path, PathBuf};

use tenantry_catalog::tenant;
use tenantry_core::{Isolation, OperatorScope, Plan, Slug, TenantName};
use tenantry_engine::archive::{ArchiveError, Manifest, Signer};

use super::{Birth, PortError, RowIds, Source, fit::fit, open_archive};
use crate::{Authority, Ops, Tenant, TenantRequest};

/// A tenant that shall be made of an archive.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ImportRequest {
    /// The archive.
    pub path: PathBuf,
    /// Its label; the archive's where it is left out.
    pub slug: Option<Slug>,
    /// What people call it; the archive's where it is left out.
    pub name: Option<TenantName>,
    /// How its rows are kept apart; the archive's where it is left out.
    pub isolation: Option<Isolation>,
    /// On the server of this name.
    pub server: Option<String>,
    /// In this region.
    pub region: Option<String>,
    /// The plan it pays for; the archive's where it is left out.
    pub plan: Option<Plan>,
    /// Whether it gets the id that it had.
    pub same_id: bool,
    /// Which ids its rows get.
    pub ids: RowIds,
    /// Who is trusted to have signed it, beside this installation.
    pub signed_by: Vec<Signer>,
}

impl ImportRequest {
    /// A new tenant as the archive has it.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            slug: None,
            name: None,
            isolation: None,
            server: None,
            region: None,
            plan: None,
            same_id: false,
            ids: RowIds::Kept,
            signed_by: Vec::new(),
        }
    }
}

impl Ops {
    /// Verifies an archive and tells what it says of itself; nothing is made. Signed by this installation or one of `signed_by`.
    ///
    /// # Errors
    /// See [`PortError`].
    pub async fn inspect_archive(
        &self,
        authority: &Authority,
        path: &Path,
        signed_by: &[Signer],
    ) -> Result<Manifest, PortError> {
        authority.require_operator(OperatorScope::Tenants)?;
        let archive = open_archive(path, &self.trusted(signed_by)).await?;
        Ok(archive.manifest().clone())
    }

    fn trusted(&self, signed_by: &[Signer]) -> Vec<Signer> {
        let mut trusted = signed_by.to_vec();
        trusted.push(self.archive_signer());
        trusted
    }

    /// Makes a tenant of an archive: its place, its tables at the archive's version, its rows, verified, and then the migrations
    /// that it lacks. Returns once it is active; until then nobody can reach it.
    ///
    /// An archive that was changed, is cut off, of a later format or does not fit is refused before anything is made.
    ///
    /// # Errors
    /// See [`PortError`]. After [`TenantError::Failed`](crate::TenantError::Failed) nothing is left of the tenant but its record.
    ///
    /// # Cancel safety
    /// Once the tenant is recorded, its operation goes on by itself.
    pub async fn import_tenant(&self, authority: &Authority, request: &ImportRequest) -> Result<Tenant, PortError> {
        authority.require_operator(OperatorScope::Tenants)?;
        // The operation may go on in a process that stands in another folder.
        let path = std::path::absolute(&request.path);
        let path = path.map_err(|source| ArchiveError::Io { doing: "read", source })?;
        let signers = self.trusted(&request.signed_by);
        let archive = open_archive(&path, &signers).await?;
        let manifest = archive.manifest();
        let new = new_tenant(request, manifest)?;
        let isolation = new.isolation.unwrap_or(manifest.tenant.isolation);
        let version = fit(
            self,
            &manifest.migrations,
            &manifest.own_migrations,
            &new.slug,
            isolation,
        )
        .await?;
        request.ids.plan(manifest.tables.iter().map(|table| &table.head))?;
        let id = manifest.tenant.id;
        if request.same_id {
            let client = self.catalog().client().await?;
            if let Some(known) = tenant::find(&client, id).await? {
                return Err(PortError::IdTaken(known.state));
            }
        }
        let birth = Birth {
            source: Source::Archive {
                path,
                digest: archive.digest().to_owned(),
                signers,
            },
            version,
            id: request.same_id.then_some(id),
            ids: request.ids.clone(),
        };
        Ok(self.bear_tenant(authority, &new, None, Some(&birth)).await?)
    }
}

/// What the request leaves open is as the archive has it.
pub(crate) fn new_tenant(request: &ImportRequest, manifest: &Manifest) -> Result<TenantRequest, PortError> {
    let had = &manifest.tenant;
    let slug = match &request.slug {
        Some(slug) => slug.clone(),
        None => had.slug.parse().map_err(|error| field("slug", error))?,
    };
    let name = match &request.name {
        Some(name) => name.clone(),
        None => had.name.parse().map_err(|error| field("name", error))?,
    };
    let plan = match &request.plan {
        Some(plan) => plan.clone(),
        None => had.plan.parse().map_err(|error| field("plan", error))?,
    };
    let mut new = TenantRequest::new(slug, name);
    new.isolation = Some(request.isolation.unwrap_or(had.isolation));
    new.server.clone_from(&request.server);
    new.region.clone_from(&request.region);
    new.plan = Some(plan);
    new.settings = Some(had.settings.clone());
    Ok(new)
}

fn field(field: &'static str, error: impl std::fmt::Display) -> PortError {
    PortError::Field {
        field,
        reason: error.to_string(),
    }
}
