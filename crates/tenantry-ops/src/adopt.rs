//! An existing single-tenant database becomes a tenant.

use serde_json::json;
use tenantry_catalog::{CatalogError, placement};
use tenantry_core::{OperatorScope, TenantState};
use tenantry_engine::adopt::{self, AdoptError, Copied, Progress, Source};

use crate::{
    Authority, Forbidden, Ops, TenantError, TenantRef,
    audit::{self, Act},
    runner::administer,
};

/// Why an existing database's rows did not become a tenant's.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdoptRowsError {
    /// The authority does not allow it.
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
    /// The tenant can't be found.
    #[error(transparent)]
    Tenant(#[from] TenantError),
    /// The tenant is not served, so nobody could look at what was copied.
    #[error("the tenant is {0}: adopt into an active one")]
    NotActive(TenantState),
    /// The tenant's server can't be used.
    #[error("the tenant's server can't be used: {0}")]
    Server(String),
    /// The copy failed; the tenant is as empty as before.
    #[error(transparent)]
    Copy(#[from] AdoptError),
    /// The catalog failed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

impl Ops {
    /// Copies every row of an existing database into a tenant that has none, whose schema already has the same tables.
    /// All of it, verified by count and checksum, or nothing.
    ///
    /// # Errors
    /// See [`AdoptRowsError`].
    ///
    /// # Cancel safety
    /// Dropped before its end, nothing was copied.
    pub async fn adopt_rows(
        &self,
        authority: &Authority,
        tenant: &TenantRef,
        source: &Source,
        progress: Progress<'_>,
    ) -> Result<Copied, AdoptRowsError> {
        authority.require_operator(OperatorScope::Tenants)?;
        let tenant = self.get_tenant(authority, tenant).await?;
        if tenant.state != TenantState::Active {
            return Err(AdoptRowsError::NotActive(tenant.state));
        }
        let client = self.catalog().client().await?;
        let located = placement::locate(self.catalog(), &client, tenant.id).await?;
        drop(client);
        let located = located.ok_or(TenantError::NotFound)?;
        let reached = administer(self, located.database.server).await;
        let (admin, _) = reached.map_err(|failure| AdoptRowsError::Server(failure.message()))?;
        let connected = admin.connect(&located.database.name).await;
        let mut home = connected.map_err(|error| AdoptRowsError::Server(error.to_string()))?;
        let target = adopt::Target {
            tenant: tenant.id,
            schema: located.placement.schema,
        };
        let copied = adopt::copy(source, &mut home, &target, progress).await?;
        let mut client = self.catalog().client().await?;
        let transaction = client.transaction().await.map_err(CatalogError::from)?;
        let rows: i64 = copied.tables.iter().map(|table| table.rows).sum();
        let act = Act {
            action: "tenant.adopt",
            tenant: Some(tenant.id),
            target: tenant.id.to_string(),
            before: None,
            after: Some(json!({ "tables": copied.tables.len(), "rows": rows })),
        };
        audit::record(&transaction, authority, act).await?;
        transaction.commit().await.map_err(CatalogError::from)?;
        Ok(copied)
    }
}
