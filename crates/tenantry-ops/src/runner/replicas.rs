//! A fence on a server with replicas: it counts when each of them has replayed it.

use futures_util::future::try_join_all;
use tenantry_catalog::{replica, server};
use tenantry_engine::{
    fence::{self, Followed, Wait},
    standby,
};
use tokio_postgres::Client;

use super::{Failure, site::Site};
use crate::replicas::{host_and_port, take_off};

/// Waits until the fence that was closed by way of `client` is closed at every replica, and nobody reads there any more who may have
/// begun before; with `end_sessions` no session is left that may be bound from before.
pub(super) async fn follow(site: &Site<'_>, client: &Client, end_sessions: bool, wait: Wait) -> Result<(), Failure> {
    for (address, followed) in at_each(site, client, end_sessions, wait).await? {
        match followed {
            Followed::Closed => {}
            Followed::NoStandby => tracing::warn!(replica = address, "it is a standby no more: nobody waits for it"),
            Followed::Behind { bytes } => return Err(behind(&address, bytes)),
            Followed::InUse { pids } => {
                let pids: Vec<String> = pids.iter().map(i32::to_string).collect();
                return Err(Failure::retry(
                    "tenant_in_use",
                    format!(
                        "transactions stay open at the replica {address} and the tenant was let in again: {} (`--force` ends them)",
                        pids.join(", ")
                    ),
                ));
            }
        }
    }
    Ok(())
}

/// Waits until every replica has replayed it, whoever reads there.
pub(super) async fn replayed(site: &Site<'_>, client: &Client, wait: Wait) -> Result<(), Failure> {
    for (address, followed) in at_each(site, client, false, wait).await? {
        if let Followed::Behind { bytes } = followed {
            return Err(behind(&address, bytes));
        }
    }
    Ok(())
}

async fn at_each(
    site: &Site<'_>,
    client: &Client,
    end_sessions: bool,
    wait: Wait,
) -> Result<Vec<(String, Followed)>, Failure> {
    let catalog = site.ops.catalog().client().await?;
    let listed = replica::list(&catalog, site.database.server).await?;
    let server = server::find(&catalog, site.database.server).await?;
    drop(catalog);
    if listed.is_empty() {
        return Ok(Vec::new());
    }
    let closed = standby::written(client).await?;
    let addresses: Vec<String> = listed.iter().map(|replica| replica.address.clone()).collect();
    let name = server.map_or_else(String::new, |server| server.name);
    let (addresses, name) = (&addresses, &name);
    try_join_all(listed.into_iter().map(|replica| async move {
        let address = replica.address;
        let (host, port) = host_and_port(&address)
            .ok_or_else(|| Failure::retry("replica_address", format!("the replica's address {address} is none")))?;
        let followed = async {
            let there = site.admin.at(host, port).connect(&site.database.name).await;
            let there = there.map_err(|error| error.to_string())?;
            let followed = fence::follow(&there, closed, end_sessions, wait).await;
            followed.map_err(|error| error.to_string())
        };
        match followed.await {
            Ok(followed) => Ok((address, followed)),
            Err(error) => Err(Failure::retry(
                "replica_unreachable",
                format!(
                    "the replica {address} can't be asked whether it still shows the tenant ({error}): start it, or take it off the \
                     list with `{}`",
                    take_off(name, addresses, &[&address])
                ),
            )),
        }
    }))
    .await
}

fn behind(address: &str, bytes: u64) -> Failure {
    Failure::retry(
        "replica_behind",
        format!("the replica {address} is {bytes} bytes behind and still shows the tenant"),
    )
}
