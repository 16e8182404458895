//! Which tenant databases can be reached right now.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, stream};
use secrecy::ExposeSecret as _;
use tenantry_catalog::{
    server::{self, Server},
    tenant_database::{self, DatabaseKind, TenantDatabase},
};
use tenantry_core::{OperatorScope, ServerId};
use tenantry_engine::admin::ServerAdmin;

use crate::{Authority, OperationError, Ops};

/// How many databases are asked at once.
const AT_ONCE: usize = 16;
/// Whoever does not answer within this time is not reachable for a request either.
const PATIENCE: Duration = Duration::from_secs(2);

/// A tenant database, and whether it lets us in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reach {
    /// The server's name.
    pub server: String,
    /// The server's region.
    pub region: String,
    /// The database's name.
    pub database: String,
    /// Whom it is for.
    pub kind: DatabaseKind,
    /// How long it took to get in; `None` where that failed.
    pub connected_in: Option<Duration>,
}

impl Ops {
    /// Tries to connect to every tenant database, each once.
    ///
    /// # Errors
    /// See [`OperationError`]. That a database can't be reached is no error but the answer.
    pub async fn check_reach(&self, authority: &Authority) -> Result<Vec<Reach>, OperationError> {
        authority.require_operator(OperatorScope::Read)?;
        let client = self.catalog().client().await?;
        let databases = tenant_database::list_ready(&client).await?;
        let mut servers = HashMap::new();
        for server in server::list(&client).await? {
            let address = server::administration(self.catalog(), &client, server.id)
                .await?
                .admin_url;
            let admin = ServerAdmin::from_url(address.expose_secret());
            servers.insert(server.id, (server, admin.ok()));
        }
        drop(client);
        let checks = databases.into_iter().filter_map(|database| check(&servers, database));
        Ok(stream::iter(checks).buffered(AT_ONCE).collect().await)
    }
}

type Servers = HashMap<ServerId, (Server, Option<ServerAdmin>)>;

/// Nothing where the server was removed between the two queries.
fn check(servers: &Servers, database: TenantDatabase) -> Option<impl Future<Output = Reach>> {
    let (server, admin) = servers.get(&database.server)?;
    Some(async move {
        let begun = Instant::now();
        let connected = match admin {
            Some(admin) => tokio::time::timeout(PATIENCE, admin.connect(&database.name)).await,
            None => return reach(server, database, None),
        };
        let connected_in = matches!(connected, Ok(Ok(_))).then(|| begun.elapsed());
        reach(server, database, connected_in)
    })
}

fn reach(server: &Server, database: TenantDatabase, connected_in: Option<Duration>) -> Reach {
    Reach {
        server: server.name.clone(),
        region: server.region.clone(),
        database: database.name,
        kind: database.kind,
        connected_in,
    }
}
