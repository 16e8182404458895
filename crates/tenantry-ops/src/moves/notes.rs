//! What a move takes of disks. PostgreSQL does not tell how much is free on them, so nobody here can say that it is too little: whoever
//! moves a tenant is told what to look at.

use tenantry_catalog::server::Server;
use tenantry_engine::{size, transfer::stream};

use crate::{
    Ops, TenantSize,
    runner::{Failure, administer},
};

impl Ops {
    /// What the new home takes.
    pub(super) async fn note_of_room(&self, server: &Server, tenant: &TenantSize) -> Result<String, Failure> {
        let (admin, _) = administer(self, server.id).await?;
        let client = admin.connect_maintenance().await?;
        let held = size::of_tenant_databases(&client, self.catalog().installation()).await?;
        let least = if tenant.complete { "about" } else { "at least" };
        Ok(format!(
            "the new home takes {least} {} bytes and, while it is filled, as much of the log again; the tenant databases on {} have {held} \
             bytes now, and PostgreSQL does not tell how much is free there",
            tenant.bytes, server.name
        ))
    }

    /// What is kept meanwhile where the tenant comes from.
    pub(super) async fn note_of_log(&self, server: &Server) -> Result<Option<String>, Failure> {
        let (admin, _) = administer(self, server.id).await?;
        let client = admin.connect_maintenance().await?;
        Ok(stream::keeps_log_without_bound(&client).await?.then(|| {
            format!(
                "until the move has ended {} keeps all of its log, whoever writes it: max_slot_wal_keep_size bounds that, and a move that \
                 loses its slot copies anew",
                server.name
            )
        }))
    }
}
