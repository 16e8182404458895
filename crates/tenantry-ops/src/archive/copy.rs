//! A tenant into a new tenant.

use tenantry_core::{Isolation, OperatorScope, Slug, TenantName};
use tenantry_engine::archive::{Mask, Masks, Snapshot};

use super::{Birth, PortError, RowIds, Source, export::require_rows, fit::fit};
use crate::{Authority, Ops, Tenant, TenantRef, TenantRequest, runner::reach_home};

/// A tenant that shall be made of another one.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CloneRequest {
    /// Its label.
    pub slug: Slug,
    /// What people call it; as the first one where it is left out.
    pub name: Option<TenantName>,
    /// How its rows are kept apart; as the first one's where it is left out.
    pub isolation: Option<Isolation>,
    /// On the server of this name.
    pub server: Option<String>,
    /// What is not copied as it is.
    pub masks: Masks,
    /// Which ids its rows get.
    pub ids: RowIds,
}

impl CloneRequest {
    /// The same with another label.
    pub fn new(slug: Slug) -> Self {
        Self {
            slug,
            name: None,
            isolation: None,
            server: None,
            masks: Masks::default(),
            ids: RowIds::Kept,
        }
    }
}

impl Ops {
    /// Makes a tenant with the rows that another one has at one moment, masked where rules say so. The first one is served
    /// meanwhile. Returns once the new one is active.
    ///
    /// # Errors
    /// See [`PortError`].
    ///
    /// # Cancel safety
    /// Once the tenant is recorded, its operation goes on by itself.
    pub async fn clone_tenant(
        &self,
        authority: &Authority,
        tenant: &TenantRef,
        request: &CloneRequest,
    ) -> Result<Tenant, PortError> {
        authority.require_operator(OperatorScope::Tenants)?;
        let tenant = self.get_tenant(authority, tenant).await?;
        require_rows(&tenant)?;
        let home = reach_home(self, tenant.id).await?;
        let mut new = TenantRequest::new(
            request.slug.clone(),
            request.name.clone().unwrap_or_else(|| tenant.name.clone()),
        );
        let isolation = request.isolation.unwrap_or(home.place.isolation);
        new.isolation = Some(isolation);
        new.server.clone_from(&request.server);
        new.plan = Some(tenant.plan.clone());
        new.settings = Some(tenant.settings.clone());
        // What can't be done is said before anything is made; the operation takes a snapshot of its own.
        let snapshot = Snapshot::begin(&home.client, self.catalog().installation(), &home.place).await?;
        let fitted = fit(
            self,
            &snapshot.migrations,
            &snapshot.own_migrations,
            &request.slug,
            isolation,
        );
        let version = fitted.await?;
        Mask::new(&request.masks, snapshot.tables())?;
        request.ids.plan(snapshot.tables())?;
        snapshot.end().await?;
        let birth = Birth {
            source: Source::Tenant {
                tenant: tenant.id,
                masks: request.masks.clone(),
            },
            version,
            id: None,
            ids: request.ids.clone(),
        };
        Ok(self.bear_tenant(authority, &new, None, Some(&birth)).await?)
    }
}
