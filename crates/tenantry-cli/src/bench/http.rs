//! A request for a contact through the whole server, against a bare handler.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use axum::{
    Json, Router,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    routing::get,
};
use chrono::{DateTime, Utc};
use serde::Serialize;
use tenantry_server::{Application, Server, Services};
use tenantry_wire::{Connection, Row};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use uuid::Uuid;

use super::{
    measure::{Caller, Crowd, Side, Slice, compare},
    queries::Ids,
    report::{Finding, Target},
    run::Run,
    world::{CROWD, Home},
};
use crate::telemetry;

/// Sixteen clients, each with its tenant and its token: as many connections of PostgreSQL's in turn.
pub(super) async fn contact(run: &Run) -> Result<Finding> {
    let homes: Vec<&Home> = run.world.shared.iter().collect();
    clients(run, "http", &homes, &format!("{CROWD} clients"), Target::AtLeast(0.75)).await
}

/// The same clients, all of one tenant: as few connections as the bare handler takes.
pub(super) async fn contact_of_one(run: &Run) -> Result<Finding> {
    let homes = vec![&run.world.shared[0]; CROWD];
    let who = format!("{CROWD} clients of one tenant");
    clients(run, "http-one-tenant", &homes, &who, Target::None).await
}

async fn clients(run: &Run, name: &'static str, homes: &[&Home], who: &str, target: Target) -> Result<Finding> {
    let world = &run.world;
    let server = serve(run, false).await?;
    let bare = Bare::start(run).await?;
    let (mut whole_callers, mut bare_callers) = (Vec::new(), Vec::new());
    for home in homes {
        let token = world.token(home).await?;
        whole_callers.push(Client::connect(server.address(), home, &token).await?);
        bare_callers.push(Client::connect(bare.address, home, &token).await?);
    }
    let (mut bare_callers, mut whole_callers) = (Crowd::new(bare_callers), Crowd::new(whole_callers));
    let found = compare(&run.meter, run.plan, &mut bare_callers, &mut whole_callers).await?;
    bare.task.abort();
    server.stop().await;
    Ok(Finding::rates(
        name,
        format!("GET /app/contacts/{{id}} with a token, {who}"),
        "a bare axum handler with the same unscoped prepared query",
        &found,
        target,
    ))
}

/// The same request with everything logged and counted that `serve` logs and counts, against a server that does neither.
pub(super) async fn observed(run: &Run) -> Result<Finding> {
    let homes: Vec<&Home> = run.world.shared.iter().collect();
    let (quiet, observed) = (serve(run, true).await?, serve(run, false).await?);
    let mut crowds = Vec::new();
    for server in [&quiet, &observed] {
        let mut callers = Vec::new();
        for home in &homes {
            let token = run.world.token(home).await?;
            callers.push(Client::connect(server.address(), home, &token).await?);
        }
        crowds.push(Crowd::new(callers));
    }
    let [quiet_callers, observed_callers] = &mut crowds[..] else {
        bail!("there are two servers")
    };
    let mut off = Logging {
        on: false,
        side: quiet_callers,
    };
    let mut on = Logging {
        on: true,
        side: observed_callers,
    };
    let found = compare(&run.meter, run.plan, &mut off, &mut on).await;
    telemetry::log_as_serve(false);
    quiet.stop().await;
    observed.stop().await;
    Ok(Finding::rates(
        "observed",
        format!("GET /app/contacts/{{id}} with a token, {CROWD} clients, logged as JSON and counted"),
        "the same without log lines, spans and metrics of requests",
        &found?,
        Target::AtLeast(0.93),
    ))
}

/// A side during whose slices is logged, or not.
struct Logging<'a> {
    on: bool,
    side: &'a mut Crowd<Client>,
}

impl Side for Logging<'_> {
    fn slice(&mut self, time: Duration) -> Pin<Box<dyn Future<Output = Result<Slice>> + '_>> {
        telemetry::log_as_serve(self.on);
        self.side.slice(time)
    }
}

async fn serve(run: &Run, unmeasured: bool) -> Result<Server> {
    let world = &run.world;
    let application = Application {
        router: tenantry_crm::router(),
        openapi: tenantry_crm::openapi(),
    };
    let config = tenantry_server::Config {
        listen: ([127, 0, 0, 1], 0).into(),
        unmeasured,
        ..tenantry_server::Config::default()
    };
    let services = Services {
        ops: world.ops.clone(),
        tenantry: world.tenantry.clone(),
    };
    Ok(tenantry_server::start(config, services, application).await?)
}

/// What an application without tenants would be: one route, one query, nothing around it.
struct Bare {
    address: SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

/// Connections that nobody uses.
type Idle = Arc<Mutex<Vec<Connection>>>;

impl Bare {
    async fn start(run: &Run) -> Result<Self> {
        let mut connections = Vec::new();
        for home in &run.world.shared {
            connections.push(run.world.plain(&home.database).await?);
        }
        let router = Router::new()
            .route("/app/contacts/{id}", get(get_contact))
            .with_state(Arc::new(Mutex::new(connections)));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        Ok(Self {
            address: listener.local_addr()?,
            task: tokio::spawn(async move {
                // The benchmark notices a server that ended by its clients.
                let _ = axum::serve(listener, router).await;
            }),
        })
    }
}

#[derive(Serialize)]
struct Contact {
    id: Uuid,
    name: String,
    email: Option<String>,
    phone: Option<String>,
    company: Option<String>,
    notes: Option<String>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

const SQL: &str = "select id, name, email, phone, company, notes, created_at, updated_at
             from plain.contacts
             where tenant_id = $1 and id = $2";

async fn get_contact(
    State(idle): State<Idle>,
    Path(id): Path<Uuid>,
    headers: HeaderMap,
) -> Result<Json<Contact>, StatusCode> {
    const FAILED: StatusCode = StatusCode::INTERNAL_SERVER_ERROR;
    let tenant = headers.get("x-tenant-id").and_then(|tenant| tenant.to_str().ok());
    let tenant: Uuid = tenant.and_then(|tenant| tenant.parse().ok()).ok_or(FAILED)?;
    let mut connection = lock(&idle).pop().ok_or(FAILED)?;
    let outcome = connection.query(SQL, &[&tenant, &id]).await.map_err(|_| FAILED)?;
    lock(&idle).push(connection);
    let row = outcome.rows.first().ok_or(StatusCode::NOT_FOUND)?;
    read(row).map(Json).map_err(|_| FAILED)
}

fn lock(idle: &Idle) -> std::sync::MutexGuard<'_, Vec<Connection>> {
    idle.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read(row: &Row) -> Result<Contact, tenantry_wire::Error> {
    Ok(Contact {
        id: row.get("id")?,
        name: row.get("name")?,
        email: row.get("email")?,
        phone: row.get("phone")?,
        company: row.get("company")?,
        notes: row.get("notes")?,
        created_at: row.get("created_at")?,
        updated_at: row.get("updated_at")?,
    })
}

/// A client that keeps its connection and sends one request after the other.
struct Client {
    stream: TcpStream,
    tail: String,
    ids: Ids,
    answer: Vec<u8>,
}

impl Client {
    async fn connect(address: SocketAddr, home: &Home, token: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            tail: format!(
                " HTTP/1.1\r\nhost: localhost\r\naccept: application/json\r\nx-tenant-id: {}\r\n\
                 authorization: Bearer {token}\r\n\r\n",
                home.id
            ),
            ids: Ids::of(home),
            answer: Vec::new(),
        })
    }

    /// Reads one answer; both servers say how long its body is.
    async fn read(&mut self) -> Result<()> {
        self.answer.clear();
        loop {
            if self.stream.read_buf(&mut self.answer).await? == 0 {
                bail!("the server closed the connection");
            }
            let Some(end) = self.answer.windows(4).position(|four| four == b"\r\n\r\n") else {
                continue;
            };
            let head = std::str::from_utf8(&self.answer[..end])?;
            ensure!(
                head.starts_with("HTTP/1.1 200"),
                "{}",
                String::from_utf8_lossy(&self.answer)
            );
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.context("the answer has no length")?.parse()?;
            if self.answer.len() == end + 4 + length {
                return Ok(());
            }
        }
    }
}

impl Caller for Client {
    async fn call(&mut self) -> Result<()> {
        let id = self.ids.next();
        let request = format!("GET /app/contacts/{id}{}", self.tail);
        self.stream.write_all(request.as_bytes()).await?;
        self.read().await
    }
}
