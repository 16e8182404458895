//! What differs between two tenants.

use serde_json::json;
use tenantry_catalog::CatalogError;
use tenantry_core::OperatorScope;
use tenantry_engine::archive::{self, Snapshot, TableDifference};

use super::{PortError, export::require_rows};
use crate::{
    Authority, Ops, TenantRef,
    audit::{self, Act},
    runner::reach_home,
};

/// Two tenants, compared.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Compared {
    /// Each table, the same ones too.
    pub tables: Vec<TableDifference>,
}

impl Compared {
    /// Whether they have the same rows.
    pub fn is_same(&self) -> bool {
        self.tables.iter().all(TableDifference::is_none)
    }
}

impl Ops {
    /// Compares the rows of two tenants, each as of one moment, by their primary keys; names at most `examples` rows of each table.
    ///
    /// # Errors
    /// See [`PortError`].
    ///
    /// # Cancel safety
    /// Nothing is changed by it.
    pub async fn compare_tenants(
        &self,
        authority: &Authority,
        a: &TenantRef,
        b: &TenantRef,
        examples: usize,
    ) -> Result<Compared, PortError> {
        authority.require_operator(OperatorScope::Tenants)?;
        let (a, b) = (
            self.get_tenant(authority, a).await?,
            self.get_tenant(authority, b).await?,
        );
        require_rows(&a)?;
        require_rows(&b)?;
        let (home_a, home_b) = (reach_home(self, a.id).await?, reach_home(self, b.id).await?);
        let installation = self.catalog().installation();
        let of_a = Snapshot::begin(&home_a.client, installation, &home_a.place).await?;
        let of_b = Snapshot::begin(&home_b.client, installation, &home_b.place).await?;
        let tables = archive::difference(&of_a, &of_b, examples).await?;
        // It shows rows of both.
        let mut client = self.catalog().client().await?;
        let transaction = client.transaction().await.map_err(CatalogError::from)?;
        for (tenant, other) in [(&a, &b), (&b, &a)] {
            let act = Act {
                action: "tenant.compare",
                tenant: Some(tenant.id),
                target: tenant.id.to_string(),
                before: None,
                after: Some(json!({ "with": other.id })),
            };
            audit::record(&transaction, authority, act).await?;
        }
        transaction.commit().await.map_err(CatalogError::from)?;
        Ok(Compared { tables })
    }
}
