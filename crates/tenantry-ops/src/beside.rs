//! What a tenant has beside its rows: files, cached values, an index of a search engine.

use std::{error::Error, fmt::Debug};

use async_trait::async_trait;
use tenantry_core::TenantId;

/// Something that holds what belongs to tenants outside of their tables: it gives that up when a tenant is purged, and what was made of
/// rows when those are replaced.
///
/// Each process that runs operations needs the same ones: `serve`, and whoever purges at a command line.
#[async_trait]
pub trait Beside: Debug + Send + Sync + 'static {
    /// What it is, for people: `files`, `cache`.
    fn name(&self) -> &'static str;

    /// Removes all that it holds of a tenant. Called when nobody is served in this tenant any more and its rows are gone; called again
    /// when it failed, or when the process ended, so that doing it twice must be doing it once.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from that: the purge is not over before it is done, and tries again.
    async fn purge(&self, tenant: TenantId) -> Result<(), Box<dyn Error + Send + Sync>>;

    /// Believes nothing any more that was made of a tenant's rows, because others stand in their place: a backup was restored there. What
    /// is the tenant's own, as files are, stays. Called while nobody is served in this tenant.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from that: the rows are what they are, and the failure is logged.
    async fn outdate(&self, tenant: TenantId) -> Result<(), Box<dyn Error + Send + Sync>> {
        let _ = tenant;
        Ok(())
    }

    /// How many things it still holds of a tenant, for the proof that a purge left nothing; `None` where it can't tell, and the proof says
    /// so.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from looking: what it holds is not shown then.
    async fn count(&self, tenant: TenantId) -> Result<Option<u64>, Box<dyn Error + Send + Sync>> {
        let _ = tenant;
        Ok(None)
    }
}
