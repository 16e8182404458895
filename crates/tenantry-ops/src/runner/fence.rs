//! Suspend and resume: the fence in the tenant's database, which stops also who did not hear of it from the catalog.

use std::time::Duration;

use tenantry_catalog::{
    change,
    operation::OperationState,
    placement::Located,
    tenant::{self, Changed},
};
use tenantry_core::{Change, TenantState};
use tenantry_engine::fence::{self, Closed, Wait};
use tokio_postgres::Client;

use super::{Failure, Journal, replicas, site::Site};
use crate::Ops;

/// How long a suspension waits for the replicas to hear of it.
const REPLICAS: Duration = Duration::from_secs(2);

pub(super) async fn suspend(ops: &Ops, journal: &Journal) -> Result<(), Failure> {
    journal.begin("fence").await?;
    let (site, located) = Site::of_tenant(ops, journal).await?;
    close(&site, &located).await?;
    journal.end("fence").await?;
    let mut client = ops.catalog().client().await?;
    let transaction = client.transaction().await?;
    journal.hold(&transaction).await?;
    journal.finish(&transaction, OperationState::Done).await?;
    Ok(transaction.commit().await?)
}

pub(super) async fn resume(ops: &Ops, journal: &Journal) -> Result<(), Failure> {
    journal.begin("fence").await?;
    let (site, located) = Site::of_tenant(ops, journal).await?;
    let client = site.connect().await?;
    site.take_turn(&client).await?;
    fence::open(&client, located.placement.tenant, located.placement.epoch).await?;
    drop(client);
    journal.end("fence").await?;
    journal.begin("activate").await?;
    activate(ops, journal, &located).await
}

/// Closes the fence without waiting for transactions that are open: they end by themselves within their time limit.
pub(super) async fn close(site: &Site<'_>, located: &Located) -> Result<(), Failure> {
    let client = site.connect().await?;
    site.take_turn(&client).await?;
    close_in_turn(site, located, &client).await
}

/// The same on a connection that has the operation's turn.
pub(super) async fn close_in_turn(site: &Site<'_>, located: &Located, client: &Client) -> Result<(), Failure> {
    fence::close(
        client,
        located.placement.tenant,
        located.placement.epoch,
        Closed::Suspended,
    )
    .await?;
    // One that is behind or gone must not keep a tenant served. The library reads from none that is further behind than it may
    // be, and whoever heard of the suspension asks for none.
    let wait = Wait {
        deadline: REPLICAS,
        force: false,
    };
    if let Err(failure) = replicas::replayed(site, client, wait).await {
        tracing::warn!(
            message = failure.message(),
            "the tenant is suspended, and may be read at a replica until that has heard of it"
        );
    }
    Ok(())
}

async fn activate(ops: &Ops, journal: &Journal, located: &Located) -> Result<(), Failure> {
    let tenant = located.placement.tenant;
    let mut client = ops.catalog().client().await?;
    let transaction = client.transaction().await?;
    journal.hold(&transaction).await?;
    let before = tenant::lock(&transaction, tenant).await?;
    let state = before.map_or(TenantState::Purged, |tenant| tenant.state);
    let changed = match state {
        TenantState::Active => Changed::Yes,
        state if state.may_become(TenantState::Active) => {
            tenant::set_state(&transaction, tenant, state, TenantState::Active).await?
        }
        _ => Changed::No,
    };
    if changed != Changed::Yes {
        return Err(Failure::retry("tenant_gone", format!("the tenant is {state}")));
    }
    change::announce(&transaction, Change::Tenant(tenant)).await?;
    journal.finish(&transaction, OperationState::Done).await?;
    Ok(transaction.commit().await?)
}
