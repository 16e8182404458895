//! A tenant into an archive.

use std::io::Write;

use serde_json::json;
use tenantry_catalog::CatalogError;
use tenantry_core::{Isolation, OperatorScope, TenantState};
use tenantry_engine::archive::{self, ExportOptions, Manifest, PackedTable, Packer, Signer, Snapshot, TenantHead};

use super::PortError;
use crate::{
    Authority, Ops, Tenant, TenantError, TenantRef,
    audit::{self, Act},
    runner::reach_home,
};

/// An archive that was written.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Exported {
    /// What it says of itself.
    pub manifest: Manifest,
    /// How many bytes it has.
    pub bytes: u64,
    /// What it is known by: SHA-256 of what the signature covers, in hex.
    pub digest: String,
    /// Who signed it.
    pub signer: Signer,
}

impl Ops {
    /// Writes all rows of a tenant, as of one moment, into an archive, and gives back what it was written to. The tenant is served
    /// meanwhile; its tables are not migrated.
    ///
    /// # Errors
    /// See [`PortError`]: what was written by then is no archive, and no program takes it for one.
    ///
    /// # Cancel safety
    /// Dropped before its end, what was written is no archive.
    pub async fn export_tenant<W: Write + Send + 'static>(
        &self,
        authority: &Authority,
        tenant: &TenantRef,
        to: W,
        options: ExportOptions,
        progress: &mut (dyn FnMut(&PackedTable, usize, usize) + Send),
    ) -> Result<(W, Exported), PortError> {
        authority.require_operator(OperatorScope::Tenants)?;
        let tenant = self.get_tenant(authority, tenant).await?;
        require_rows(&tenant)?;
        let home = reach_home(self, tenant.id).await?;
        let installation = self.catalog().installation();
        let snapshot = Snapshot::begin(&home.client, installation, &home.place).await?;
        let head = head(&tenant, home.place.isolation);
        let key = self.archive_key();
        let signer = key.signer();
        let packer = Packer::new(to, key);
        let (to, packed, manifest) = archive::export(&snapshot, installation, head, options, packer, progress).await?;
        snapshot.end().await?;
        let exported = Exported {
            manifest,
            bytes: packed.bytes,
            digest: packed.digest,
            signer,
        };
        self.note_export(authority, &tenant, &exported).await?;
        Ok((to, exported))
    }

    async fn note_export(&self, authority: &Authority, tenant: &Tenant, exported: &Exported) -> Result<(), PortError> {
        let mut client = self.catalog().client().await?;
        let transaction = client.transaction().await.map_err(CatalogError::from)?;
        let manifest = &exported.manifest;
        let act = Act {
            action: "tenant.export",
            tenant: Some(tenant.id),
            target: tenant.id.to_string(),
            before: None,
            after: Some(json!({
                "archive": exported.digest, "rows": manifest.rows(), "taken_at": manifest.taken_at
            })),
        };
        audit::record(&transaction, authority, act).await?;
        Ok(transaction.commit().await.map_err(CatalogError::from)?)
    }
}

/// Refuses a tenant that has no rows yet, or none any more.
pub(super) fn require_rows(tenant: &Tenant) -> Result<(), TenantError> {
    match tenant.state {
        TenantState::Active | TenantState::Suspended | TenantState::Deleted => Ok(()),
        state => Err(TenantError::State {
            state,
            needs: "it has to have its rows: be active, suspended or deleted",
        }),
    }
}

pub(super) fn head(tenant: &Tenant, isolation: Isolation) -> TenantHead {
    TenantHead {
        id: tenant.id,
        slug: tenant.slug.to_string(),
        name: tenant.name.to_string(),
        plan: tenant.plan.to_string(),
        settings: tenant.settings.clone(),
        isolation,
    }
}
