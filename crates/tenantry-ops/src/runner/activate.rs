//! The transaction on the catalog from which on a new tenant is served.

use tenantry_catalog::{
    Transaction, change,
    operation::OperationState,
    operation_cleanup,
    placement::{self, Located},
    tenant::{self, Changed},
    tenant_database,
};
use tenantry_core::{Change, Isolation, TenantState};

use super::{Failure, site::Site};
use crate::{
    Authority,
    audit::{self, Act},
};

/// All of it but the end. The operation's row is held from here on: nobody takes over.
pub(super) async fn prepare(site: &Site<'_>, located: &Located, transaction: &Transaction<'_>) -> Result<(), Failure> {
    let (journal, tenant) = (site.journal, located.placement.tenant);
    journal.hold_step(transaction, "activate").await?;
    // Sent without waiting for each other's answers: nothing of it counts before the commit.
    let activated = async {
        match tenant::set_state(transaction, tenant, TenantState::Provisioning, TenantState::Active).await? {
            Changed::Yes => Ok(()),
            Changed::No | Changed::Clash(_) => Err(Failure::permanent(
                "not_provisioning",
                "the tenant is not being provisioned any more",
            )),
        }
    };
    let routed = async {
        if located.placement.isolation == Isolation::Database {
            tenant_database::set_ready(transaction, located.database.id).await?;
        }
        Ok(placement::set_ready(transaction, tenant).await?)
    };
    let settled = async { Ok(operation_cleanup::settle_all(transaction, journal.operation.id).await?) };
    let announced = async { Ok(change::announce(transaction, Change::Tenant(tenant)).await?) };
    let ended = journal.finish(transaction, OperationState::Done);
    tokio::try_join!(activated, routed, settled, announced, ended)?;
    Ok(())
}

/// The end: writers of the audit log wait for each other until it is committed.
pub(super) async fn commit(site: &Site<'_>, located: &Located, transaction: Transaction<'_>) -> Result<(), Failure> {
    let tenant = located.placement.tenant;
    let act = Act {
        action: "tenant.activate",
        tenant: Some(tenant),
        target: tenant.to_string(),
        before: None,
        after: Some(serde_json::json!({ "isolation": located.placement.isolation })),
    };
    let authority = Authority::system("operation");
    let (found, ()) = tokio::try_join!(
        tenant::find(&transaction, tenant),
        audit::record(&transaction, &authority, act)
    )?;
    transaction.commit().await?;
    if let Some(found) = found {
        site.journal.keep_activated(found);
    }
    Ok(())
}
