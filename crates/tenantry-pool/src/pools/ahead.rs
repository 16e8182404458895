//! A connection to the home that a tenant comes to, before it is there.
//!
//! Those who wait for a move come all at once, as a rule to a database to which this process has no connection, and perhaps to a server of
//! whose connections it has no share yet. Both take longer than what they wait for takes in the end.

use tenantry_core::TenantId;

use super::Pools;

impl Pools {
    /// Opens a connection where the tenant goes. It is lent to nobody and bound to nobody: as long as the fence there is closed it gives
    /// nobody access, and who comes first finds it. Where that can't be done, they open their own.
    pub(super) fn go_ahead(&self, tenant: TenantId) {
        let pools = self.clone();
        // In a task of its own: whoever waits for the move does not wait for this.
        tokio::spawn(async move {
            let destination = match pools.source().destination(tenant).await {
                Ok(Some(destination)) => destination,
                Ok(None) => return,
                Err(error) => {
                    tracing::debug!(error = %error, "where a tenant moves can't be looked up: no connection is opened there in advance");
                    return;
                }
            };
            let entered = pools.shared.placements.leading_to(destination);
            // It waits for a place, and keeps nothing alive meanwhile.
            drop(pools);
            drop(entered.pool.lease_untouched(&entered.binding()).await);
        });
    }
}
