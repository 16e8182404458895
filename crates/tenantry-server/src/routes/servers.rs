//! The PostgreSQL clusters of the fleet: which there are, how they stand, from which replicas the application may read, and how many spares
//! are kept there.
//!
//! What needs a password (to add one, to change its address) is no route: the command line reads it from stdin.

use axum::{Json, extract::State};
use chrono::{DateTime, Utc};
use serde::Serialize;
use tenantry::axum::{Body, Fields, FromFields, Path, Problem};
use tenantry_core::Tier;
use tenantry_ops::{ReplicaCheck, Server, ServerChange, ServerCheck};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{Services, caller::Caller, refusal};

/// A server; its administrator's address stays out, for it holds a password.
#[derive(Serialize, ToSchema)]
#[schema(as = Server)]
pub(crate) struct ServerBody {
    id: Uuid,
    name: String,
    region: String,
    /// How many tenants it takes at most; `null` where that is not bounded.
    capacity: Option<i32>,
    tenants: i32,
    /// How many connections all processes of the application together may have there.
    connections: i32,
    /// The pooler by which the application reaches it, as `host:port`.
    pooler: Option<String>,
    /// Standbys that the application may read from, as `host:port`.
    replicas: Vec<String>,
    /// How many schemas are kept ready there for new tenants; `null` for as many as `serve` is configured to keep.
    spare_schemas: Option<u16>,
    /// The same of databases.
    spare_databases: Option<u16>,
    /// `active`, or `draining` where it takes no new tenants.
    state: String,
    /// Of PostgreSQL, as it was when the server was checked last.
    version: String,
    created_at: DateTime<Utc>,
}

impl From<Server> for ServerBody {
    fn from(server: Server) -> Self {
        Self {
            id: *server.id.as_uuid(),
            name: server.name,
            region: server.region,
            capacity: server.capacity,
            tenants: server.tenants,
            connections: server.connections,
            pooler: server.app_address,
            replicas: server.replicas,
            spare_schemas: server.spare_schemas,
            spare_databases: server.spare_databases,
            state: server.state.to_string(),
            version: version(server.server_version),
            created_at: server.created_at,
        }
    }
}

fn version(number: i32) -> String {
    format!("{}.{}", number / 10_000, number % 10_000)
}

/// The fleet's servers.
#[derive(Serialize, ToSchema)]
#[schema(as = Servers)]
pub(crate) struct ServersBody {
    items: Vec<ServerBody>,
}

/// What was found on a server.
#[derive(Serialize, ToSchema)]
#[schema(as = ServerCheck)]
pub(crate) struct ServerCheckBody {
    name: String,
    /// Of PostgreSQL; `null` where it could not be asked.
    version: Option<String>,
    /// How its tenant databases can prove contexts.
    tier: Option<&'static str>,
    replicas: Vec<ReplicaCheckBody>,
    ok: bool,
    /// What is wrong, in sentences; of replicas too.
    problems: Vec<String>,
}

/// What was found of a replica.
#[derive(Serialize, ToSchema)]
#[schema(as = ReplicaCheck)]
pub(crate) struct ReplicaCheckBody {
    /// As `host:port`.
    address: String,
    /// Whether it gave an answer. One that does not holds up moves from its server.
    reachable: bool,
    /// How many bytes of its server's log it does not show yet.
    behind_bytes: Option<u64>,
    /// Whether it is a standby of this server that may be read from.
    ok: bool,
    /// The command that takes it off the list, where nothing is read from it.
    take_off: Option<String>,
}

impl From<ReplicaCheck> for ReplicaCheckBody {
    fn from(check: ReplicaCheck) -> Self {
        Self {
            address: check.address,
            reachable: check.reachable,
            behind_bytes: check.behind_bytes,
            ok: check.problem.is_none(),
            take_off: check.take_off,
        }
    }
}

impl From<ServerCheck> for ServerCheckBody {
    fn from(check: ServerCheck) -> Self {
        Self {
            name: check.name,
            version: check.server_version.map(version),
            tier: check.tier.map(Tier::as_str),
            replicas: check.replicas.into_iter().map(Into::into).collect(),
            ok: check.problems.is_empty(),
            problems: check.problems,
        }
    }
}

/// From which standbys the application may read.
#[derive(ToSchema)]
#[schema(as = Replicas)]
#[expect(dead_code, reason = "describes what `ReplicasBody` reads")]
pub(crate) struct ReplicasSchema {
    /// As `host:port`: these and no others.
    #[schema(max_items = 16)]
    replicas: Vec<String>,
}

/// What is read of [`ReplicasSchema`].
pub(crate) struct ReplicasBody {
    replicas: Vec<String>,
}

impl FromFields for ReplicasBody {
    fn from_fields(fields: &mut Fields) -> Option<Self> {
        Some(Self {
            replicas: fields.required("replicas")?,
        })
    }
}

/// How many homes are kept ready for new tenants on a server.
#[derive(ToSchema)]
#[schema(as = Spares)]
#[expect(dead_code, reason = "describes what `SparesBody` reads")]
pub(crate) struct SparesSchema {
    /// Schemas; as many as `serve` is configured to keep where it is left out.
    #[schema(maximum = 65535)]
    spare_schemas: Option<u16>,
    /// The same of databases.
    #[schema(maximum = 65535)]
    spare_databases: Option<u16>,
}

/// What is read of [`SparesSchema`].
pub(crate) struct SparesBody {
    schemas: Option<u16>,
    databases: Option<u16>,
}

impl FromFields for SparesBody {
    fn from_fields(fields: &mut Fields) -> Option<Self> {
        Some(Self {
            schemas: fields.optional("spare_schemas"),
            databases: fields.optional("spare_databases"),
        })
    }
}

/// List the servers, by name.
#[utoipa::path(get, path = "/v1/servers", tag = "servers", responses((status = 200, body = ServersBody)))]
pub(crate) async fn list_servers(
    State(services): State<Services>,
    Caller(authority): Caller,
) -> Result<Json<ServersBody>, Problem> {
    let found = services.ops.list_servers(&authority).await;
    let items = found.map_err(refusal::of_server)?;
    Ok(Json(ServersBody {
        items: items.into_iter().map(Into::into).collect(),
    }))
}

/// Check that a server and its replicas can be reached and are as they should be. What is wrong is no error but the answer.
#[utoipa::path(post, path = "/v1/servers/{name}/check", tag = "servers",
    params(("name" = String, Path, description = "The server's name")),
    responses((status = 200, body = ServerCheckBody), (status = 404)))]
pub(crate) async fn check_server(
    State(services): State<Services>,
    Caller(authority): Caller,
    Path(name): Path<String>,
) -> Result<Json<ServerCheckBody>, Problem> {
    let found = services.ops.check_server(&authority, &name).await;
    Ok(Json(found.map_err(refusal::of_server)?.into()))
}

/// Say from which standbys of a server the application may read: these and no others. Each has to answer, as the server's own administrator,
/// and to be a standby of this very server. Processes hear of it at once.
#[utoipa::path(put, path = "/v1/servers/{name}/replicas", tag = "servers", request_body = ReplicasSchema,
    params(("name" = String, Path, description = "The server's name")),
    responses((status = 200, body = ServerBody), (status = 404), (status = 409), (status = 422)))]
pub(crate) async fn set_replicas(
    State(services): State<Services>,
    Caller(authority): Caller,
    Path(name): Path<String>,
    Body(ReplicasBody { replicas }): Body<ReplicasBody>,
) -> Result<Json<ServerBody>, Problem> {
    let change = ServerChange {
        replicas: Some(replicas),
        ..ServerChange::default()
    };
    let changed = services.ops.change_server(&authority, &name, &change).await;
    Ok(Json(changed.map_err(refusal::of_server)?.into()))
}

/// Say how many homes are kept ready on a server for new tenants, whatever `serve` is configured to keep; what is left out is as configured
/// again. Whoever keeps them sees it within some seconds, makes what is missing and drops what is too many.
#[utoipa::path(put, path = "/v1/servers/{name}/spares", tag = "servers", request_body = SparesSchema,
    params(("name" = String, Path, description = "The server's name")),
    responses((status = 200, body = ServerBody), (status = 404), (status = 422)))]
pub(crate) async fn set_spares(
    State(services): State<Services>,
    Caller(authority): Caller,
    Path(name): Path<String>,
    Body(SparesBody { schemas, databases }): Body<SparesBody>,
) -> Result<Json<ServerBody>, Problem> {
    let change = ServerChange {
        spare_schemas: Some(schemas),
        spare_databases: Some(databases),
        ..ServerChange::default()
    };
    let changed = services.ops.change_server(&authority, &name, &change).await;
    Ok(Json(changed.map_err(refusal::of_server)?.into()))
}
