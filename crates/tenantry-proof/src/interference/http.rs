//! HTTP as A's and B's way: the same requests to two servers with everything behind them, as sequences that begin without
//! rows.
//!
//! Ids and times are made by the servers, so the normaliser names each id by the order in which A first saw it and takes
//! times, request ids and cursors out. Everything else of an answer counts: status, headers, body.

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use reqwest::Method;
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tenantry::{ResolverConfig, Tenantry};
use tenantry_catalog::{Catalog, MasterKey};
use tenantry_core::{Isolation, OperatorScopes};
use tenantry_engine::migrate::Files;
use tenantry_ops::{Authority, FleetConfig, IdentityConfig, OperatorKeyRequest, Ops, ServerRequest};
use tenantry_server::{Application, Config, Server, Services};
use tenantry_testing::{TestCluster, TestDatabase, database_on};
use tokio_postgres::Client;

use super::{
    library::patient,
    run::{Finding, Kind},
    shrink::{Shrinks, keep},
    ways::Compares,
};
use crate::rng::Rng;

const PASSWORD: &str = "correct horse battery 7";
const KINDS: [&str; 3] = ["contacts", "projects", "tasks"];

/// How many requests of A make a program.
const TURNS: u64 = 40;

/// A server with a catalog, an operator and two tenants.
struct Web {
    client: reqwest::Client,
    base: String,
    tokens: [String; 2],
    /// Ids that A knows, by kind, in the order in which it made them; and B's.
    own: [Vec<String>; 3],
    theirs: [Vec<String>; 3],
    names: HashMap<String, usize>,
    /// Of each tenant: its database, as superuser, and its schema there.
    homes: Vec<(Client, String)>,
    _server: Server,
    _catalog: TestDatabase,
}

/// One request; ids are positions among those that are known.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Ask {
    List(usize, String),
    Get(usize, Id),
    Create(usize, Value, Option<Id>),
    Change(usize, Id, Value),
    Delete(usize, Id),
    Me,
    Members,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Id {
    Own(u64),
    Theirs(u64),
    Nobodys(u64),
}

impl Web {
    async fn start(cluster: &TestCluster, isolation: Isolation) -> Result<Self> {
        // Whoever is second finds the first one's provider, which is the same.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let catalog_database = database_on(cluster).await;
        let catalog = Catalog::connect(&catalog_database.url(), &MasterKey::from_bytes([7; 32])).await?;
        let mut fleet = FleetConfig::default();
        fleet.migrations = Some(Arc::new(Files::from_embedded(
            tenantry_crm::MIGRATIONS.iter().copied(),
        )?));
        let ops = Ops::with_fleet(
            catalog.clone(),
            IdentityConfig::new("https://tenantry.test", "proofs"),
            fleet,
        );
        let system = Authority::system("proof");
        ops.ensure_signing_keys().await?;
        let request = ServerRequest {
            name: "one".to_owned(),
            region: None,
            capacity: None,
            connections: None,
            admin_url: cluster.admin_url("postgres").into(),
        };
        ops.add_server(&system, &request).await?;
        let request = OperatorKeyRequest {
            name: "proof".to_owned(),
            scopes: OperatorScopes::all(),
            expires_at: None,
        };
        let (_, operator_key) = ops.create_operator_key(&system, &request).await?;
        let resolver = ResolverConfig::new("https://tenantry.test", "proofs");
        let tenantry = Tenantry::on_catalog(catalog, resolver, patient())?;
        let config = Config {
            listen: ([127, 0, 0, 1], 0).into(),
            ..Config::default()
        };
        let application = Application {
            router: tenantry_crm::router(),
            openapi: tenantry_crm::openapi(),
        };
        let server = tenantry_server::start(config, Services { ops, tenantry }, application).await?;
        let mut web = Self {
            client: reqwest::Client::new(),
            base: format!("http://{}", server.address()),
            tokens: [String::new(), String::new()],
            own: Default::default(),
            theirs: Default::default(),
            names: HashMap::new(),
            homes: Vec::new(),
            _server: server,
            _catalog: catalog_database,
        };
        for (tenant, slug) in ["alpha-ltd", "beta-ltd"].into_iter().enumerate() {
            web.tokens[tenant] = web.tenant(operator_key.expose_secret(), slug, isolation).await?;
        }
        let homes = web
            ._catalog
            .connect()
            .await
            .query(
                "select d.name, p.schema_name from tenantry_catalog.placement p join tenantry_catalog.tenant_database d on d.id = p.tenant_database",
                &[],
            )
            .await?;
        for home in homes {
            let client = cluster.connect(home.get(0)).await;
            web.homes.push((client, home.get(1)));
        }
        Ok(web)
    }

    /// Takes out all rows, so that a program begins as any other.
    async fn empty(&mut self) -> Result<()> {
        for (client, schema) in &self.homes {
            let deletes = KINDS.map(|kind| format!("delete from {schema}.{kind};")).concat();
            client
                .batch_execute(&format!("set session_replication_role = replica; {deletes}"))
                .await?;
        }
        self.own = Default::default();
        self.theirs = Default::default();
        self.names.clear();
        Ok(())
    }

    async fn tenant(&self, operator: &str, slug: &str, isolation: Isolation) -> Result<String> {
        let email = format!("owner@{slug}.example.net");
        let body = json!({
            "slug": slug, "name": slug, "isolation": isolation.to_string(),
            "admin": { "email": email, "password": PASSWORD, "name": "Owner" }
        });
        let (status, _, text) = self.send(operator, Method::POST, "/v1/tenants", Some(&body)).await?;
        anyhow::ensure!(status == 201, "no tenant: {status} {text}");
        let body = json!({ "email": email, "password": PASSWORD, "tenant": slug });
        let (_, _, text) = self.send("", Method::POST, "/v1/auth/login", Some(&body)).await?;
        let answer: Value = serde_json::from_str(&text)?;
        Ok(answer["access_token"].as_str().context("no token")?.to_owned())
    }

    async fn send(
        &self,
        token: &str,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(u16, String, String)> {
        let mut request = self.client.request(method, format!("{}{path}", self.base));
        if !token.is_empty() {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await?;
        let mut headers: Vec<String> = response
            .headers()
            .iter()
            .filter(|(name, _)| {
                !["date", "x-request-id", "traceresponse", "content-length", "location"].contains(&name.as_str())
            })
            .map(|(name, value)| format!("{name}: {value:?}"))
            .collect();
        headers.sort_unstable();
        Ok((response.status().as_u16(), headers.join(", "), response.text().await?))
    }

    fn id(&self, tenant: usize, kind: usize, id: Id) -> String {
        let known = |ids: &[String], at: u64| ids.get(at as usize % ids.len().max(1)).cloned();
        let (own, theirs) = if tenant == 0 {
            (&self.own, &self.theirs)
        } else {
            (&self.theirs, &self.own)
        };
        let nobodys = |at: u64| format!("00000000-0000-7000-8000-{:012x}", at & 0xffff_ffff_ffff);
        match id {
            Id::Own(at) => known(&own[kind], at).unwrap_or_else(|| nobodys(at)),
            Id::Theirs(at) => known(&theirs[kind], at).unwrap_or_else(|| nobodys(at)),
            Id::Nobodys(at) => nobodys(at),
        }
    }

    /// What the tenant observes of its request.
    async fn ask(&mut self, tenant: usize, ask: &Ask) -> Result<String> {
        let token = self.tokens[tenant].clone();
        let of = |kind: usize| format!("/app/{}", KINDS[kind]);
        let one = |web: &Self, kind: usize, id: Id| format!("{}/{}", of(kind), web.id(tenant, kind, id));
        let (method, path, body) = match ask {
            Ask::List(kind, query) => (Method::GET, format!("{}?{query}", of(*kind)), None),
            Ask::Get(kind, id) => (Method::GET, one(self, *kind, *id), None),
            Ask::Create(kind, body, project) => {
                let mut body = body.clone();
                if let Some(project) = project {
                    body["project_id"] = json!(self.id(tenant, 1, *project));
                }
                (Method::POST, of(*kind), Some(body))
            }
            Ask::Change(kind, id, body) => (Method::PATCH, one(self, *kind, *id), Some(body.clone())),
            Ask::Delete(kind, id) => (Method::DELETE, one(self, *kind, *id), None),
            Ask::Me => (Method::GET, "/v1/auth/me".to_owned(), None),
            Ask::Members => (Method::GET, "/v1/tenants/alpha-ltd/members".to_owned(), None),
        };
        let (status, headers, text) = self.send(&token, method, &path, body.as_ref()).await?;
        if let (201, Ask::Create(kind, ..)) = (status, ask) {
            let made: Value = serde_json::from_str(&text)?;
            let id = made["id"].as_str().context("no id")?.to_owned();
            let ids = if tenant == 0 { &mut self.own } else { &mut self.theirs };
            ids[*kind].push(id);
        }
        if tenant != 0 {
            return Ok(String::new());
        }
        Ok(format!("{status} {headers} {}", self.normalise(&text)))
    }

    fn normalise(&mut self, text: &str) -> String {
        let Ok(mut value) = serde_json::from_str::<Value>(text) else {
            return text.to_owned();
        };
        self.walk(&mut value);
        value.to_string()
    }

    fn walk(&mut self, value: &mut Value) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    match name.as_str() {
                        "request_id" | "created_at" | "updated_at" | "last_login_at" => *value = json!("-"),
                        "next_cursor" if !value.is_null() => *value = json!("more"),
                        _ => self.walk(value),
                    }
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.walk(item)),
            Value::String(text) if uuid::Uuid::try_parse(text).is_ok() => {
                let next = self.names.len();
                let number = *self.names.entry(text.clone()).or_insert(next);
                *text = format!("id {number}");
            }
            _ => {}
        }
    }
}

fn ask(rng: &mut Rng, canary: &str) -> Ask {
    let kind = rng.below(3) as usize;
    let id = match rng.below(10) {
        0..=5 => Id::Own(rng.next()),
        6..=8 => Id::Theirs(rng.next()),
        _ => Id::Nobodys(rng.below(50)),
    };
    let text = format!("{canary}{}", rng.below(20));
    match rng.below(20) {
        0..=3 => {
            let queries = [
                "limit=100",
                "limit=3",
                "q=a",
                "sort=-created_at&limit=100",
                "status=todo",
                "nothing=1",
            ];
            Ask::List(kind, (*rng.pick(&queries)).to_owned())
        }
        4..=6 => Ask::Get(kind, id),
        7..=12 => {
            let (body, project) = match kind {
                0 => (
                    json!({ "name": text, "email": format!("e{}@x.org", rng.below(12)) }),
                    None,
                ),
                1 => (
                    json!({ "name": text, "status": *rng.pick(&["active", "archived", "odd"]) }),
                    None,
                ),
                _ => (json!({ "title": text }), Some(id)),
            };
            Ask::Create(kind, body, project)
        }
        13..=15 => {
            let body = match (kind, rng.below(3)) {
                (_, 0) => json!({ "tenant_id": "0190-0" }),
                (0, _) => json!({ "name": text, "email": format!("e{}@x.org", rng.below(12)) }),
                (1, _) => json!({ "description": text }),
                _ => json!({ "status": "done", "description": text }),
            };
            Ask::Change(kind, id, body)
        }
        16..=17 => Ask::Delete(kind, id),
        18 => Ask::Me,
        _ => Ask::Members,
    }
}

/// What is asked of the servers.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Requests {
    turns: Vec<Turn>,
}

/// Requests of B in each world, then one of A in both.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Turn {
    b: [Vec<AskOfB>; 2],
    a: Vec<Ask>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct AskOfB {
    ask: Ask,
    /// B's client does not wait for the answer.
    leaves: bool,
}

/// The requests of a seed.
pub(super) fn requests(seed: u64, number: u64) -> Requests {
    let mut rng = Rng::of(seed, &[number, 4]);
    let mut of_b = [5, 6].map(|stream| Rng::of(seed, &[number, stream]));
    let turns = (0..TURNS).map(|_| {
        let b = [0, 1].map(|world| {
            let rng = &mut of_b[world];
            let canary = format!("B{world}canary");
            let asks = (0..rng.below(3)).map(|_| AskOfB {
                ask: ask(rng, &canary),
                leaves: rng.chance(10),
            });
            asks.collect()
        });
        Turn {
            b,
            a: vec![ask(&mut rng, "a")],
        }
    });
    Requests { turns: turns.collect() }
}

/// Two worlds of servers.
pub(super) struct Webs {
    webs: [Web; 2],
}

impl Webs {
    pub(super) async fn start(cluster: &TestCluster, isolation: Isolation) -> Result<Self> {
        Ok(Self {
            webs: [
                Web::start(cluster, isolation).await?,
                Web::start(cluster, isolation).await?,
            ],
        })
    }

    /// Seeds a defect in A's database of both worlds; `{schema}` is filled in.
    pub(super) async fn seed_defect(&self, sql: &str) -> Result<()> {
        for web in &self.webs {
            let (client, schema) = web.homes.first().context("no tenants")?;
            client.batch_execute(&sql.replace("{schema}", schema)).await?;
        }
        Ok(())
    }

    async fn run(&mut self, requests: &Requests) -> Result<Option<Finding>> {
        for web in &mut self.webs {
            web.empty().await?;
        }
        let [first, second] = &mut self.webs;
        let mut asked = 0;
        for turn in &requests.turns {
            for (world, web) in [&mut *first, &mut *second].into_iter().enumerate() {
                for of_b in &turn.b[world] {
                    if of_b.leaves {
                        let _ = tokio::time::timeout(Duration::from_millis(1), web.ask(1, &of_b.ask)).await;
                    } else {
                        web.ask(1, &of_b.ask).await?;
                    }
                }
            }
            for ask in &turn.a {
                asked += 1;
                let (one, other) = tokio::join!(first.ask(0, ask), second.ask(0, ask));
                let (one, other) = (one?, other?);
                if one != other || one.contains("canary") {
                    return Ok(Some(Finding {
                        kind: Kind::Difference,
                        statements: asked,
                        step: ask.to_string(),
                        shape: ask.shape().to_owned(),
                        answers: [one, other],
                    }));
                }
            }
        }
        Ok(None)
    }
}

impl Compares for Webs {
    type Program = Requests;

    async fn compare(&mut self, requests: &Requests) -> Option<Finding> {
        self.run(requests).await.unwrap_or_else(|error| {
            Some(Finding {
                kind: Kind::Broken,
                statements: requests.statements(),
                step: "the whole program".to_owned(),
                shape: "-".to_owned(),
                answers: [format!("{error:#}"), String::new()],
            })
        })
    }
}

/// A request that may be left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Atom {
    OfA(usize, usize),
    OfB(usize, usize, usize),
}

impl Shrinks for Requests {
    type Atom = Atom;
    const ORDER: &'static [fn(&Atom) -> bool] = &[
        |atom| matches!(atom, Atom::OfA(..)),
        |atom| matches!(atom, Atom::OfB(..)),
        |atom| matches!(atom, Atom::OfA(..)),
    ];

    fn atoms(&self) -> Vec<Atom> {
        let mut atoms = Vec::new();
        for (number, turn) in self.turns.iter().enumerate() {
            atoms.extend((0..turn.a.len()).map(|ask| Atom::OfA(number, ask)));
            for world in 0..2 {
                atoms.extend((0..turn.b[world].len()).map(|ask| Atom::OfB(number, world, ask)));
            }
        }
        atoms
    }

    fn leave_out(&self, without: &[Atom]) -> Self {
        let keeps = |atom: Atom| !without.contains(&atom);
        let mut smaller = self.clone();
        for (number, turn) in smaller.turns.iter_mut().enumerate() {
            keep(&mut turn.a, |ask| keeps(Atom::OfA(number, ask)));
            for world in 0..2 {
                keep(&mut turn.b[world], |ask| keeps(Atom::OfB(number, world, ask)));
            }
        }
        smaller
    }

    fn tidy(&mut self) {
        self.turns
            .retain(|turn| !turn.a.is_empty() || turn.b.iter().any(|asks| !asks.is_empty()));
    }

    fn statements(&self) -> usize {
        self.turns.iter().map(|turn| turn.a.len()).sum()
    }

    fn shapes(&self) -> impl Iterator<Item = &str> {
        self.turns.iter().flat_map(|turn| &turn.a).map(|ask| ask.shape())
    }
}

impl Ask {
    fn shape(&self) -> &'static str {
        match self {
            Self::List(..) => "list by HTTP",
            Self::Get(..) => "get by HTTP",
            Self::Create(..) => "create by HTTP",
            Self::Change(..) => "change by HTTP",
            Self::Delete(..) => "delete by HTTP",
            Self::Me | Self::Members => "account by HTTP",
        }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own(at) => write!(f, "{{own {at}}}"),
            Self::Theirs(at) => write!(f, "{{the other's {at}}}"),
            Self::Nobodys(at) => write!(f, "{{nobody's {at}}}"),
        }
    }
}

impl fmt::Display for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::List(kind, query) => write!(f, "GET /app/{}?{query}", KINDS[*kind]),
            Self::Get(kind, id) => write!(f, "GET /app/{}/{id}", KINDS[*kind]),
            Self::Create(kind, body, None) => write!(f, "POST /app/{} {body}", KINDS[*kind]),
            Self::Create(kind, body, Some(id)) => write!(f, "POST /app/{} {body} in {id}", KINDS[*kind]),
            Self::Change(kind, id, body) => write!(f, "PATCH /app/{}/{id} {body}", KINDS[*kind]),
            Self::Delete(kind, id) => write!(f, "DELETE /app/{}/{id}", KINDS[*kind]),
            Self::Me => f.write_str("GET /v1/auth/me"),
            Self::Members => f.write_str("GET /v1/tenants/alpha-ltd/members"),
        }
    }
}

impl fmt::Display for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for turn in &self.turns {
            for (world, asks) in turn.b.iter().enumerate() {
                for of_b in asks {
                    let leaves = if of_b.leaves { " (and leaves)" } else { "" };
                    writeln!(f, "  b in world {world}{leaves}: {}", of_b.ask)?;
                }
            }
            for ask in &turn.a {
                writeln!(f, "  a: {ask}")?;
            }
        }
        Ok(())
    }
}
