//! The fleet's servers: add, list, check.

use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;
use tenantry_catalog::{
    CatalogError, change,
    operation::{self, NewOperation, OperationKind},
    replica,
    server::{self, Inserted, NewServer, Pooler, Server},
    tenant_database::{self, DatabaseKind, TenantDatabase},
};
use tenantry_core::{Change, OperationId, OperatorScope, ServerId, Tier};
use tenantry_engine::{
    admin::ServerAdmin,
    bootstrap, keys, password,
    survey::{Survey, survey},
};
use tenantry_sql::Identifier;

use crate::{
    Authority, Forbidden, Ops, TenantError, Unfinished,
    audit::{self, Act},
    derived::MIGRATION_REFUSED,
    placing,
    replicas::{self, ANSWER_TIMEOUT, REPLICAS_MAX, ReplicaCheck, host_and_port},
    runner, secret,
};

/// A server that shall be registered.
#[derive(Clone, Debug)]
pub struct ServerRequest {
    /// Its name: 1 to 40 characters of `a-z`, `0-9` and `-`, beginning with a letter.
    pub name: String,
    /// Where it stands; `default` if left out.
    pub region: Option<String>,
    /// How many tenants it takes at most.
    pub capacity: Option<i32>,
    /// How many connections all processes of the application together may have there; 64 if left out.
    pub connections: Option<i32>,
    /// The administrator's address: may create roles and databases.
    pub admin_url: SecretString,
}

/// What shall be different about a server.
#[derive(Clone, Debug, Default)]
pub struct ServerChange {
    /// Another address: the same cluster elsewhere, or with another password of the administrator's.
    pub admin_url: Option<SecretString>,
    /// How many connections all processes of the application together may have there.
    pub connections: Option<i32>,
    /// How the application reaches it: by a pooler at this `host:port`, or, `Some(None)`, as the administrator does.
    pub pooler: Option<Option<(Pooler, String)>>,
    /// Its standbys that the application may read from, as `host:port`: these and no others.
    pub replicas: Option<Vec<String>>,
    /// How many spare schemas are kept there, or, `Some(None)`, as many as the configuration says.
    pub spare_schemas: Option<Option<u16>>,
    /// How many spare databases are kept there, or, `Some(None)`, as many as the configuration says.
    pub spare_databases: Option<Option<u16>>,
    /// Whether the application's roles get new passwords.
    pub new_passwords: bool,
}

/// What was found on a server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServerCheck {
    /// Its name.
    pub name: String,
    /// `server_version_num`, if it could be asked.
    pub server_version: Option<i32>,
    /// How its tenant databases can prove contexts, if it could be found out.
    pub tier: Option<Tier>,
    /// How its replicas stand.
    pub replicas: Vec<ReplicaCheck>,
    /// What stands in the way of using it, in sentences; empty when all is well.
    pub problems: Vec<String>,
}

/// Why a server was not registered or checked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The authority does not allow it.
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
    /// There is no such server.
    #[error("there is no server of this name: `tenantry server list` shows those there are")]
    NotFound,
    /// The server has no such tenant database.
    #[error("the server has no tenant database of this name that is ready: `tenantry doctor` names them")]
    NoSuchDatabase,
    /// The name has no usable form.
    #[error("a server's name has 1 to 40 characters of a-z, 0-9 and -, beginning with a letter")]
    Name,
    /// The region has no usable form.
    #[error("a region has 1 to 40 characters of a-z, 0-9 and -, beginning with a letter or digit")]
    Region,
    /// There is no connection.
    #[error("a server has at least one connection for the application")]
    Connections,
    /// The pooler's address has no usable form.
    #[error("a pooler's address is a host and a port, as in pooler.example:6432")]
    PoolerAddress,
    /// A replica's address has no usable form.
    #[error(
        "a replica's address is a host and a port, as in replica.example:5432; a server has at most {REPLICAS_MAX} replicas"
    )]
    ReplicaAddress,
    /// A pooler stands before the server.
    #[error(
        "a server that is reached by a pooler has no replicas: nobody can ask it how far it is; take the pooler away \
         (`tenantry server set <name> --no-pooler`), or list no replicas (`--no-replicas`)"
    )]
    PoolerAndReplicas,
    /// The capacity is negative.
    #[error("a capacity is not negative")]
    Capacity,
    /// The address is no PostgreSQL address.
    #[error("the administrator's address is not understood: {0}")]
    Address(String),
    /// Another server has the name.
    #[error("another server has this name: choose another one, or change that one by `tenantry server set`")]
    NameTaken,
    /// The same cluster is registered under another name.
    #[error("this cluster is registered already, under another name")]
    AlreadyRegistered,
    /// It can't be reached.
    #[error("the server can't be reached: {0}")]
    Unreachable(String),
    /// It can't be used.
    #[error("the server can't be used: {}", problems.join("; "))]
    Unfit {
        /// Why, in sentences.
        problems: Vec<String>,
    },
    /// Making its shared tenant database takes longer than the caller waits.
    #[error("the server's tenant database is not made yet: {0}")]
    StillRunning(Unfinished),
    /// The application's migrations are refused, so that its shared tenant database could not get their tables.
    #[error("the application's migrations are refused, so the server is not registered: {refusals}")]
    Refused {
        /// The refusals, a line each: file, line, reason and mend.
        refusals: String,
    },
    /// Its shared tenant database could not be made.
    #[error("the server's tenant database could not be made, so the server is not registered: {message}")]
    Failed {
        /// Why.
        message: String,
    },
    /// The catalog failed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

impl From<tokio_postgres::Error> for ServerError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Catalog(error.into())
    }
}

impl Ops {
    /// Registers a server and makes its shared tenant database, with the application's tables.
    ///
    /// # Errors
    /// See [`ServerError`]. If the database can't be made, the server is not registered.
    ///
    /// # Cancel safety
    /// Once the server is recorded, its operation goes on by itself.
    pub async fn add_server(&self, authority: &Authority, request: &ServerRequest) -> Result<Server, ServerError> {
        authority.require_operator(OperatorScope::Servers)?;
        let region = request.region.as_deref().unwrap_or("default");
        check_words(&request.name, region, request.capacity)?;
        check_connections(request.connections)?;
        let admin = reach(&request.admin_url)?;
        let found = look(&admin).await?;
        let problems = problems(&found);
        if !problems.is_empty() {
            return Err(ServerError::Unfit { problems });
        }
        let id = secret::server_id();
        let new = NewServer {
            id,
            name: &request.name,
            region,
            capacity: request.capacity,
            connections: request.connections,
            admin_url: &request.admin_url,
            mover_password: &secret::random_text().into(),
            server_version: found.version,
            system_identifier: found.system_identifier,
        };
        let operation = self.record_server(authority, &new).await?;
        match self.finish_operation(operation).await {
            Ok(()) => {}
            Err(TenantError::StillRunning(unfinished)) => return Err(ServerError::StillRunning(unfinished)),
            Err(TenantError::Catalog(error)) => return Err(error.into()),
            Err(TenantError::Failed { code, message, .. }) if code == MIGRATION_REFUSED => {
                return Err(ServerError::Refused { refusals: message });
            }
            Err(error) => {
                return Err(ServerError::Failed {
                    message: error.to_string(),
                });
            }
        }
        let client = self.catalog().client().await?;
        server::find(&client, id).await?.ok_or(ServerError::NotFound)
    }

    async fn record_server(&self, authority: &Authority, new: &NewServer<'_>) -> Result<OperationId, ServerError> {
        let mut client = self.catalog().client().await?;
        let transaction = client.transaction().await?;
        match server::insert(self.catalog(), &transaction, new).await? {
            Inserted::Yes => {}
            Inserted::NameTaken => return Err(ServerError::NameTaken),
            Inserted::AlreadyRegistered => return Err(ServerError::AlreadyRegistered),
        }
        let database = secret::tenant_database_id();
        // The id makes it unguessable, so that nobody can have put one there before.
        let name = format!("tn_{}_{}", self.catalog().installation(), database.as_uuid().simple());
        placing::record_database(self, &transaction, new.id, database, &name, DatabaseKind::Shared).await?;
        let operation = secret::operation_id();
        let work = NewOperation {
            id: operation,
            kind: OperationKind::PrepareDatabase,
            tenant: None,
            database: Some(database),
            input: &json!({}),
            run_after: None,
        };
        operation::insert(&transaction, &work).await?;
        change::announce(&transaction, Change::Servers).await?;
        let act = Act {
            action: "server.add",
            tenant: None,
            target: new.name.to_owned(),
            before: None,
            after: Some(json!({ "name": new.name, "region": new.region, "capacity": new.capacity })),
        };
        audit::record(&transaction, authority, act).await?;
        transaction.commit().await?;
        Ok(operation)
    }

    /// Changes how a server is reached and how much of it is used. Processes hear of it: they open new connections as it says now,
    /// and close the old ones as their calls end. Those that keep spares see other numbers of them within some seconds.
    ///
    /// # Errors
    /// See [`ServerError`]. Each change is made for itself, in the order of the fields: what was made before a failure stays.
    pub async fn change_server(
        &self,
        authority: &Authority,
        name: &str,
        change: &ServerChange,
    ) -> Result<Server, ServerError> {
        authority.require_operator(OperatorScope::Servers)?;
        check_connections(change.connections)?;
        if let Some(Some((_, address))) = &change.pooler {
            check_pooler_address(address)?;
        }
        check_replica_addresses(change.replicas.as_deref().unwrap_or_default())?;
        if let Some(url) = &change.admin_url {
            self.change_server_address(authority, name, url).await?;
        }
        let mut client = self.catalog().client().await?;
        let known = server::find_by_name(&client, name)
            .await?
            .ok_or(ServerError::NotFound)?;
        let pools = tenant_database::list_ready_on(&client, known.id).await?;
        let is_pooled = match &change.pooler {
            Some(pooler) => pooler.is_some(),
            None => known.pooler.is_some(),
        };
        if is_pooled && !change.replicas.as_ref().unwrap_or(&known.replicas).is_empty() {
            return Err(ServerError::PoolerAndReplicas);
        }
        if let Some(replicas) = &change.replicas {
            replicas::require_standbys(&self.administrator(&known).await?, &known, replicas).await?;
        }
        if let Some(pooler) = &change.pooler {
            self.let_pooled_tokens(&known, &pools, pooler.is_some()).await?;
        }
        let transaction = client.transaction().await?;
        if let Some(connections) = change.connections {
            server::set_connections(&transaction, known.id, connections).await?;
            change::announce(&transaction, Change::Shares).await?;
        }
        if let Some(pooler) = &change.pooler {
            let pooler = pooler.as_ref().map(|(pooler, address)| (*pooler, address.as_str()));
            server::set_pooler(&transaction, known.id, pooler).await?;
            change::announce(&transaction, Change::Servers).await?;
        }
        if let Some(replicas) = &change.replicas {
            replica::set(&transaction, known.id, replicas).await?;
            change::announce(&transaction, Change::Servers).await?;
        }
        if let Some(number) = change.spare_schemas {
            server::set_spare_schemas(&transaction, known.id, number).await?;
        }
        if let Some(number) = change.spare_databases {
            server::set_spare_databases(&transaction, known.id, number).await?;
        }
        let pooler = change
            .pooler
            .as_ref()
            .map(|pooler| pooler.as_ref().map(|(_, address)| address));
        let act = Act {
            action: "server.change",
            tenant: None,
            target: known.name.clone(),
            before: Some(json!({
                "connections": known.connections,
                "pooler": known.app_address,
                "replicas": known.replicas,
                "spare_schemas": known.spare_schemas,
                "spare_databases": known.spare_databases,
            })),
            after: Some(json!({
                "connections": change.connections,
                "pooler": pooler,
                "replicas": change.replicas,
                // Where nothing is said they stay, and null is a number that is taken away.
                "spare_schemas": change.spare_schemas.unwrap_or(known.spare_schemas),
                "spare_databases": change.spare_databases.unwrap_or(known.spare_databases),
                "new_passwords": change.new_passwords,
            })),
        };
        audit::record(&transaction, authority, act).await?;
        transaction.commit().await?;
        if change.new_passwords {
            self.renew_passwords(&known, &pools).await?;
        }
        server::find(&client, known.id).await?.ok_or(ServerError::NotFound)
    }

    /// Lets tenant databases accept tokens that name no backend, or refuses them again.
    async fn let_pooled_tokens(
        &self,
        server: &Server,
        databases: &[TenantDatabase],
        allow: bool,
    ) -> Result<(), ServerError> {
        let admin = self.administrator(server).await?;
        for database in databases {
            let client = admin
                .connect(&database.name)
                .await
                .map_err(|error| unreachable(&error))?;
            keys::allow_pooled(&client, allow)
                .await
                .map_err(|error| unreachable(&error))?;
        }
        Ok(())
    }

    /// Gives the application's role of each database another password. The catalog first: whoever is refused reads it again, so
    /// the moment in between is waited out, and a crash in it is mended by doing this once more.
    async fn renew_passwords(&self, server: &Server, databases: &[TenantDatabase]) -> Result<(), ServerError> {
        let admin = self.administrator(server).await?;
        let client = admin.connect_maintenance().await.map_err(|error| unreachable(&error))?;
        let mut catalog = self.catalog().client().await?;
        for database in databases {
            let role = Identifier::new(&database.app_role).map_err(|error| unreachable(&error))?;
            let new = password::generate();
            tenant_database::set_app_password(self.catalog(), &catalog, database.id, &new).await?;
            password::set(&client, &role, &new)
                .await
                .map_err(|error| unreachable(&error))?;
        }
        let transaction = catalog.transaction().await?;
        change::announce(&transaction, Change::Servers).await?;
        Ok(transaction.commit().await?)
    }

    async fn administrator(&self, server: &Server) -> Result<ServerAdmin, ServerError> {
        let client = self.catalog().client().await?;
        let administration = server::administration(self.catalog(), &client, server.id).await?;
        reach(&administration.admin_url)
    }

    /// Gives a server that is registered already another address: the same cluster, elsewhere or with another password.
    ///
    /// # Errors
    /// See [`ServerError`]; [`ServerError::Unfit`] when it is another cluster.
    pub async fn change_server_address(
        &self,
        authority: &Authority,
        name: &str,
        admin_url: &SecretString,
    ) -> Result<(), ServerError> {
        authority.require_operator(OperatorScope::Servers)?;
        let admin = reach(admin_url)?;
        let found = look(&admin).await?;
        let mut client = self.catalog().client().await?;
        let transaction = client.transaction().await?;
        let known = server::find_by_name(&transaction, name)
            .await?
            .ok_or(ServerError::NotFound)?;
        if found.system_identifier != known.system_identifier {
            let problem = "it is another cluster than the one that was registered".to_owned();
            return Err(ServerError::Unfit {
                problems: vec![problem],
            });
        }
        server::set_admin_url(self.catalog(), &transaction, known.id, admin_url).await?;
        change::announce(&transaction, Change::Servers).await?;
        let act = Act {
            action: "server.change-address",
            tenant: None,
            target: known.name,
            before: None,
            after: None,
        };
        audit::record(&transaction, authority, act).await?;
        Ok(transaction.commit().await?)
    }

    /// Every server, by name.
    ///
    /// # Errors
    /// See [`ServerError`].
    pub async fn list_servers(&self, authority: &Authority) -> Result<Vec<Server>, ServerError> {
        authority.require_operator(OperatorScope::Read)?;
        let client = self.catalog().client().await?;
        Ok(server::list(&client).await?)
    }

    /// Looks whether a server can be reached and used. Changes nothing on it but what bootstrap mends.
    ///
    /// # Errors
    /// See [`ServerError`]; what is wrong with the server itself stands in the answer.
    pub async fn check_server(&self, authority: &Authority, name: &str) -> Result<ServerCheck, ServerError> {
        authority.require_operator(OperatorScope::Read)?;
        let client = self.catalog().client().await?;
        let known = server::find_by_name(&client, name)
            .await?
            .ok_or(ServerError::NotFound)?;
        let administration = server::administration(self.catalog(), &client, known.id).await?;
        let shared = tenant_database::find_shared(&client, known.id).await?;
        drop(client);
        let mut check = ServerCheck {
            name: known.name.clone(),
            server_version: None,
            tier: None,
            replicas: Vec::new(),
            problems: Vec::new(),
        };
        let found = match reach(&administration.admin_url) {
            Ok(admin) => look(&admin).await.map(|found| (admin, found)),
            Err(error) => Err(error),
        };
        let (admin, found) = match found {
            Ok(found) => found,
            Err(error) => {
                check.problems.push(error.to_string());
                return Ok(check);
            }
        };
        check.server_version = Some(found.version);
        check.problems = problems(&found);
        if found.system_identifier != known.system_identifier {
            check
                .problems
                .push("it is another cluster than the one that was registered".to_owned());
        }
        if shared.is_none_or(|database| database.state != tenant_database::DatabaseState::Ready) {
            check
                .problems
                .push("its shared tenant database is not ready: look at its operation".to_owned());
        }
        if check.problems.is_empty() {
            let installation = self.catalog().installation();
            match bootstrap::server(&admin, installation, Some(&administration.mover_password)).await {
                Ok(made) => check.tier = Some(made.tier),
                Err(error) => check.problems.push(error.to_string()),
            }
        }
        check.replicas = replicas::check(&admin, &known, ANSWER_TIMEOUT).await;
        let of_replicas = check.replicas.iter();
        check.problems.extend(of_replicas.filter_map(ReplicaCheck::trouble));
        if check.problems.is_empty() {
            self.note_checked(known.id, found.version).await?;
        }
        Ok(check)
    }

    async fn note_checked(&self, id: ServerId, version: i32) -> Result<(), CatalogError> {
        let client = self.catalog().client().await?;
        server::set_checked(&client, id, version).await
    }
}

fn check_words(name: &str, region: &str, capacity: Option<i32>) -> Result<(), ServerError> {
    let word = |text: &str| {
        (1..=40).contains(&text.len())
            && text
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !text.starts_with('-')
    };
    if !word(name) || !name.starts_with(|c: char| c.is_ascii_lowercase()) {
        return Err(ServerError::Name);
    }
    if !word(region) {
        return Err(ServerError::Region);
    }
    if capacity.is_some_and(|capacity| capacity < 0) {
        return Err(ServerError::Capacity);
    }
    Ok(())
}

fn check_connections(connections: Option<i32>) -> Result<(), ServerError> {
    match connections {
        Some(connections) if connections < 1 => Err(ServerError::Connections),
        _ => Ok(()),
    }
}

fn check_replica_addresses(addresses: &[String]) -> Result<(), ServerError> {
    let fit = addresses.len() <= REPLICAS_MAX && addresses.iter().all(|address| host_and_port(address).is_some());
    if fit { Ok(()) } else { Err(ServerError::ReplicaAddress) }
}

fn check_pooler_address(address: &str) -> Result<(), ServerError> {
    match host_and_port(address) {
        Some(_) => Ok(()),
        None => Err(ServerError::PoolerAddress),
    }
}

fn unreachable(error: &dyn std::error::Error) -> ServerError {
    ServerError::Unreachable(runner::chain(error))
}

/// The address has to serve the administrator's client and, with another role, the application's.
fn reach(url: &SecretString) -> Result<ServerAdmin, ServerError> {
    let admin = ServerAdmin::from_url(url.expose_secret()).map_err(|error| ServerError::Address(error.to_string()))?;
    tenantry_wire::Endpoint::from_url(url.expose_secret()).map_err(|error| ServerError::Address(error.to_string()))?;
    Ok(admin)
}

async fn look(admin: &ServerAdmin) -> Result<Survey, ServerError> {
    let client = admin.connect_maintenance().await.map_err(|error| unreachable(&error))?;
    survey(&client).await.map_err(|error| unreachable(&error))
}

fn problems(found: &Survey) -> Vec<String> {
    let admin = &found.admin;
    let mut problems = Vec::new();
    if found.version < bootstrap::OLDEST_SERVER_VERSION {
        problems.push(format!(
            "it runs PostgreSQL {}: 15 or newer is needed",
            found.version / 10_000
        ));
    }
    if !found.writable {
        problems.push("it takes no changes: name the primary, not a standby".to_owned());
    }
    if !found.creates_roles {
        problems.push(format!(
            "the administrator {admin} may not make roles: give it CREATEROLE"
        ));
    }
    if !found.creates_databases {
        problems.push(format!(
            "the administrator {admin} may not make databases: give it CREATEDB"
        ));
    }
    problems
}
