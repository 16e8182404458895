//! The fleet in figures: what the catalog knows of calls, and servers of bytes.

use futures_util::{FutureExt as _, StreamExt as _, stream};
use tenantry_catalog::{
    placement::{self, Dweller},
    server::{Server, ServerState},
    tenant_database::{self, DatabaseState},
};
use tenantry_core::{ServerId, TenantState};
use tenantry_engine::size;

use super::{
    BalanceError,
    plan::{Bin, Fleet, Weighed},
};
use crate::{Ops, runner::administer};

/// How many servers or tenants are asked at once.
const AT_ONCE: usize = 8;

/// All servers, and the tenants of those from which tenants may go.
pub(super) async fn fleet(ops: &Ops, servers: Vec<Server>, sources: &[ServerId]) -> Result<Fleet, BalanceError> {
    let client = ops.catalog().client().await?;
    let mut fleet = Fleet::default();
    let mut leaving = Vec::new();
    for (number, server) in servers.iter().enumerate() {
        let dwellers = placement::list_on_server(&client, server.id).await?;
        let shared = tenant_database::find_shared(&client, server.id).await?;
        fleet.servers.push(Bin {
            name: server.name.clone(),
            region: server.region.clone(),
            room: server.capacity.map(|capacity| capacity - server.tenants),
            active: server.state == ServerState::Active,
            shared: shared.is_some_and(|shared| shared.state == DatabaseState::Ready),
            bytes: 0,
            calls: dwellers.iter().map(|one| one.calls).sum(),
            tenants: server.tenants,
        });
        if sources.contains(&server.id) {
            leaving.extend(dwellers.into_iter().map(|one| (number, one)));
        }
    }
    drop(client);
    // Boxed: else the compiler can't tell that they may go from thread to thread.
    let sizes: Vec<_> = servers.iter().map(|server| bytes_of(ops, server.id).boxed()).collect();
    let sizes: Vec<i64> = stream::iter(sizes).buffered(AT_ONCE).collect().await;
    for (bin, bytes) in fleet.servers.iter_mut().zip(sizes) {
        bin.bytes = bytes;
    }
    let weighed: Vec<_> = leaving
        .into_iter()
        .map(|(on, dweller)| weigh(ops, on, dweller).boxed())
        .collect();
    fleet.tenants = stream::iter(weighed).buffered(AT_ONCE).collect().await;
    Ok(fleet)
}

/// What a server's tenant databases take. One that can't be asked counts as empty: its tenants' moves will be refused, and say why.
async fn bytes_of(ops: &Ops, server: ServerId) -> i64 {
    let asked = async {
        let (admin, _) = administer(ops, server).await.map_err(|failure| failure.message())?;
        let client = admin.connect_maintenance().await.map_err(|error| error.to_string())?;
        size::of_tenant_databases(&client, ops.catalog().installation())
            .await
            .map_err(|error| error.to_string())
    };
    asked.await.unwrap_or_else(|error| {
        tracing::warn!(server = %server, error, "a server can't be asked how full it is");
        0
    })
}

async fn weigh(ops: &Ops, on: usize, dweller: Dweller) -> Weighed {
    let bound = match dweller.state {
        TenantState::Active | TenantState::Suspended => None,
        TenantState::Provisioning => Some("it is being made: run this again when that has ended".to_owned()),
        TenantState::Deleted => Some(
            "it is deleted, and only what can be served is moved: purge it, resume it, or wait for its purge"
                .to_owned(),
        ),
        TenantState::Purged => Some("it is being purged: run this again when that has ended".to_owned()),
    };
    // What can't be measured weighs nothing: that it can't be moved either, its move says.
    let bytes = match bound {
        None => ops.measure_tenant(dweller.tenant).await.map_or(0, |size| size.bytes),
        Some(_) => 0,
    };
    Weighed {
        tenant: dweller.tenant,
        slug: dweller.slug,
        isolation: dweller.isolation,
        on,
        bytes,
        calls: dweller.calls,
        bound,
    }
}
