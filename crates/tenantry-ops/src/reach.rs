//! Which tenant databases can be reached right now.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, stream};
use secrecy::ExposeSecret as _;
use tenantry_catalog::{
    placement,
    server::{self, Server},
    tenant_database::{self, DatabaseKind, TenantDatabase},
};
use tenantry_core::{OperatorScope, ServerId};
use tenantry_engine::{admin::ServerAdmin, home::missing_schemas};

use crate::{Authority, OperationError, Ops};

/// How many databases are asked at once.
const AT_ONCE: usize = 32;
/// Whoever does not answer within this time is not reachable for a request either.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long all of it takes at most: whoever asks for health waits less than for anything else.
const ALL: Duration = Duration::from_secs(5);

/// A tenant database, whether it lets us in, and whether the places of its tenants are there.
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
    /// How many served tenants live there.
    pub tenants: usize,
    /// Whether it could be reached.
    pub found: Found,
}

/// What a look at a tenant database found.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Found {
    /// It let us in.
    Reachable {
        /// How long that took.
        connected_in: Duration,
        /// Schemas of served tenants that are not there, which is nothing that happens by itself.
        missing: Vec<String>,
    },
    /// It did not, or it did not answer.
    Unreachable,
    /// There was no time left to look.
    NotLooked,
}

impl Ops {
    /// Tries to connect to every tenant database, each once and many at a time, and looks for the schemas of its tenants. It takes
    /// five seconds at most; what was not looked at by then is said.
    ///
    /// # Errors
    /// See [`OperationError`]. That a database can't be reached is no error but the answer.
    ///
    /// # Cancel safety
    /// It only reads.
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
        let mut schemas = placement::served_schemas(&client).await?;
        drop(client);
        let until = Instant::now() + ALL;
        let mut checks = Vec::with_capacity(databases.len());
        for database in databases {
            let schemas = schemas.remove(&database.id).unwrap_or_default();
            checks.extend(check(&servers, database, schemas, until));
        }
        Ok(stream::iter(checks).buffered(AT_ONCE).collect().await)
    }
}

type Servers = HashMap<ServerId, (Server, Option<ServerAdmin>)>;

/// Nothing where the server was removed between the two queries.
fn check(
    servers: &Servers,
    database: TenantDatabase,
    schemas: Vec<(String, usize)>,
    until: Instant,
) -> Option<impl Future<Output = Reach>> {
    let (server, admin) = servers.get(&database.server)?;
    Some(async move {
        let found = match admin {
            Some(admin) => look(admin, &database.name, &schemas, until).await,
            None => Found::Unreachable,
        };
        Reach {
            server: server.name.clone(),
            region: server.region.clone(),
            database: database.name,
            kind: database.kind,
            tenants: schemas.iter().map(|(_, tenants)| tenants).sum(),
            found,
        }
    })
}

async fn look(admin: &ServerAdmin, database: &str, schemas: &[(String, usize)], until: Instant) -> Found {
    let begun = Instant::now();
    let left = until.saturating_duration_since(begun);
    if left.is_zero() {
        return Found::NotLooked;
    }
    let looking = async {
        let client = admin.connect(database).await.ok()?;
        let connected_in = begun.elapsed();
        let names: Vec<&str> = schemas.iter().map(|(name, _)| name.as_str()).collect();
        let missing = missing_schemas(&client, &names).await.ok()?;
        Some(Found::Reachable { connected_in, missing })
    };
    let found = tokio::time::timeout(PATIENCE.min(left), looking).await;
    found.ok().flatten().unwrap_or(Found::Unreachable)
}
