//! Which ids the rows of a tenant get that is made of other rows.

use serde::{Deserialize, Serialize};
use tenantry_core::OperatorScope;
use tenantry_engine::archive::{ArchiveError, IdPlan, Snapshot, TableHead};

use super::{CloneRequest, ImportRequest, PortError, export::require_rows};
use crate::{Authority, Ops, TenantRef, runner::reach_home};

/// Which ids rows get.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RowIds {
    /// Those that they have.
    #[default]
    Kept,
    /// New ones, in keys of one column and in all that foreign keys tie to them.
    New {
        /// And in these uuid columns, as `table.column`, which hold ids of rows without a foreign key.
        also: Vec<String>,
    },
}

impl RowIds {
    /// What becomes of the ids in these tables; `None` where they are kept.
    pub(super) fn plan<'a>(
        &self,
        heads: impl IntoIterator<Item = &'a TableHead>,
    ) -> Result<Option<IdPlan>, ArchiveError> {
        match self {
            Self::Kept => Ok(None),
            Self::New { also } => Ok(Some(IdPlan::new(heads, also)?)),
        }
    }
}

impl Ops {
    /// Which columns would get new ids if this archive were imported, which would not, and where ids may stand that are not looked for;
    /// `None` where the request keeps them. Nothing is made.
    ///
    /// # Errors
    /// See [`PortError`].
    pub async fn plan_import_ids(
        &self,
        authority: &Authority,
        request: &ImportRequest,
    ) -> Result<Option<IdPlan>, PortError> {
        let manifest = self
            .inspect_archive(authority, &request.path, &request.signed_by)
            .await?;
        Ok(request.ids.plan(manifest.tables.iter().map(|table| &table.head))?)
    }

    /// The same for a tenant that is to be cloned.
    ///
    /// # Errors
    /// See [`PortError`].
    ///
    /// # Cancel safety
    /// Nothing is changed by it.
    pub async fn plan_clone_ids(
        &self,
        authority: &Authority,
        tenant: &TenantRef,
        request: &CloneRequest,
    ) -> Result<Option<IdPlan>, PortError> {
        authority.require_operator(OperatorScope::Tenants)?;
        let tenant = self.get_tenant(authority, tenant).await?;
        require_rows(&tenant)?;
        let home = reach_home(self, tenant.id).await?;
        let snapshot = Snapshot::begin(&home.client, self.catalog().installation(), &home.place).await?;
        let plan = request.ids.plan(snapshot.tables())?;
        snapshot.end().await?;
        Ok(plan)
    }
}
