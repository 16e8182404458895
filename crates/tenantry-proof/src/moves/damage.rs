//! What a broken move would leave, done by hand to moves that went well: a proof that finds nothing has to show that it would.

use anyhow::{Context as _, Result};
use tenantry_catalog::placement;
use tenantry_core::TenantId;

use super::site::Site;

/// One for each of the runs that share a fault.
const DAMAGES: [(&str, &str); 4] = [
    (
        "Lost",
        "delete from {schema}.entry where tenant_id = '{tenant}' and amount = 0 and note like 'of %' and (session, seq) =
            (select session, min(seq) from {schema}.entry where tenant_id = '{tenant}' and amount = 0 and note like 'of %'
              group by session limit 1)",
    ),
    (
        "Foreign",
        "insert into {schema}.entry (tenant_id, session, seq) values ('{tenant}', 0, 1)",
    ),
    (
        "Unbalanced",
        "update {schema}.account set balance = balance + 1 where tenant_id = '{tenant}' and id = 1",
    ),
    (
        "Refused",
        "update {schema}.thing set small = 1001 where tenant_id = '{tenant}'
            and (session, n) = (select session, min(n) from {schema}.thing where tenant_id = '{tenant}' group by session limit 1)",
    ),
];

impl Site {
    /// Damages a tenant's rows where it lives.
    pub(super) async fn damage(&self, tenant: TenantId, position: usize) -> Result<()> {
        let catalog = self.ops.catalog();
        let client = catalog.client().await?;
        let located = placement::locate(catalog, &client, tenant)
            .await?
            .context("it has a home")?;
        drop(client);
        let server = self.home(tenant).await?.server;
        let admin = self.place(server).connect(&located.placement.database_name).await?;
        let sql = DAMAGES[position % DAMAGES.len()]
            .1
            .replace("{schema}", &located.placement.schema)
            .replace("{tenant}", &tenant.to_string());
        let touched = admin.execute(&sql, &[]).await?;
        anyhow::ensure!(touched == 1, "nothing was damaged: {sql}");
        Ok(())
    }
}

/// The finding that this run has to have.
pub(super) fn expected(position: usize) -> &'static str {
    DAMAGES[position % DAMAGES.len()].0
}
