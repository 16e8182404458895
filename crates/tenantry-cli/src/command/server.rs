//! `tenantry server`: the PostgreSQL clusters of the fleet.

mod balance;

use std::{collections::BTreeMap, io::BufRead};

use chrono::{DateTime, Utc};
use clap::{ArgGroup, Args, Subcommand};
use secrecy::SecretString;
use serde::Serialize;
use tenantry_core::{ServerId, Tier};
use tenantry_ops::{
    DatabaseHardening, HardeningChange, Ops, Pooler, ReplicaCheck, Server, ServerChange, ServerCheck, ServerRequest,
};

use crate::{
    config::Config,
    connect::{self, authority},
    failure::Failure,
    output::{Answer, List, Output, fields, table, time},
    progress::Progress,
};

/// What to do with servers.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Register a PostgreSQL cluster and prepare it
    Add(Add),
    /// Change how a server is reached, how many connections it has for the application, and how many spares
    Set(Set),
    /// List the servers
    List,
    /// Check that servers can be reached and are as they should be
    Check(Check),
    /// Move every tenant off a server, each to the least used server of its region, and let no new one come
    Drain(balance::Drain),
    /// Move as few tenants as it takes for the servers of each region to be about equally used
    Rebalance(balance::Rebalance),
    /// Harden tenant databases for SQL from outside the application, or undo it
    Harden(Harden),
}

/// The server to add.
#[derive(Args, Debug)]
pub(crate) struct Add {
    /// Its name in the fleet: 1 to 40 characters of a-z, 0-9 and -, beginning with a letter
    name: String,
    /// The administrator's connection, postgres://user:password@host:port/database; `-` reads it from stdin, so that the
    /// password does not stand in the list of processes
    #[arg(long)]
    url: String,
    /// The region it stands in
    #[arg(long)]
    region: Option<String>,
    /// How many tenants it takes [default: no bound]
    #[arg(long, value_parser = parse_capacity)]
    capacity: Option<i32>,
    /// How many connections all processes of the application together may have there [default: 64]
    #[arg(long, value_parser = parse_connections)]
    connections: Option<i32>,
}

fn parse_capacity(text: &str) -> Result<i32, String> {
    let tenants = text.parse().ok().filter(|tenants| *tenants >= 0);
    tenants.ok_or_else(|| "a capacity is a number of tenants, 0 or more; 0 takes no new ones".to_owned())
}

fn parse_connections(text: &str) -> Result<i32, String> {
    let connections = text.parse().ok().filter(|connections| *connections >= 1);
    connections.ok_or_else(|| "a server has at least one connection for the application: write 1 or more".to_owned())
}

/// The number as it is written in the configuration.
fn parse_spares(text: &str) -> Result<u16, String> {
    text.parse()
        .map_err(|_| "write a number from 0 to 65535; 0 keeps none".to_owned())
}

/// What to change.
#[derive(Args, Debug)]
#[command(group(ArgGroup::new("change").required(true).multiple(true)
    .args(["url", "connections", "pooler", "no_pooler", "replicas", "no_replicas", "own_spare_schemas",
        "own_spare_databases", "no_own_spares", "new_passwords"])))]
pub(crate) struct Set {
    /// The server's name
    name: String,
    /// Another connection of the administrator's, to the same cluster: elsewhere, or with another password; `-` reads it from
    /// stdin
    #[arg(long)]
    url: Option<String>,
    /// How many connections all processes of the application together may have there
    #[arg(long, value_parser = parse_connections)]
    connections: Option<i32>,
    /// The application goes by a pooler in transaction mode at this host:port, such as PgBouncer; see docs/pool.md
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "no_pooler")]
    pooler: Option<String>,
    /// The application goes to the server itself
    #[arg(long)]
    no_pooler: bool,
    /// A standby that the application may read from, at this host:port; several times for several. Those named are listed, and no
    /// others; see docs/replicas.md
    #[arg(long = "replica", value_name = "HOST:PORT", conflicts_with = "no_replicas")]
    replicas: Vec<String>,
    /// The application reads from the server itself only
    #[arg(long)]
    no_replicas: bool,
    /// How many schemas are kept ready there for tenants with one of their own, whatever the configuration says
    #[arg(long, value_name = "NUMBER", value_parser = parse_spares)]
    own_spare_schemas: Option<u16>,
    /// How many databases are kept ready there for tenants with one of their own, whatever the configuration says
    #[arg(long, value_name = "NUMBER", value_parser = parse_spares)]
    own_spare_databases: Option<u16>,
    /// As many schemas and databases are kept ready there as the configuration says
    #[arg(long, conflicts_with_all = ["own_spare_schemas", "own_spare_databases"])]
    no_own_spares: bool,
    /// Give the application's roles new passwords; what runs goes on
    #[arg(long)]
    new_passwords: bool,
}

/// Which server to check.
#[derive(Args, Debug)]
pub(crate) struct Check {
    /// The server's name [default: all]
    server: Option<String>,
}

/// Which databases to harden.
#[derive(Args, Debug)]
pub(crate) struct Harden {
    /// The server's name
    server: String,
    /// The tenant database [default: all of the server's]
    #[arg(long)]
    database: Option<String>,
    /// Groups that stay with PUBLIC, as docs/hardening.md names them
    #[arg(long, value_delimiter = ',', conflicts_with = "undo")]
    except: Vec<String>,
    /// Give back to PUBLIC what hardening took
    #[arg(long)]
    undo: bool,
}

/// How far a database is hardened.
#[derive(Serialize)]
struct Hardened {
    database: String,
    kind: String,
    protection: &'static str,
    /// The groups that PUBLIC still has.
    left: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl From<DatabaseHardening> for Hardened {
    fn from(hardening: DatabaseHardening) -> Self {
        let protection = hardening.protection();
        let (left, error) = match hardening.found {
            Ok(found) => (found.left.iter().map(|left| left.group).collect(), None),
            Err(error) => (Vec::new(), Some(error)),
        };
        Self {
            database: hardening.database,
            kind: hardening.kind.to_string(),
            protection,
            left,
            error,
        }
    }
}

impl Answer for List<Hardened> {
    fn text(&self) -> String {
        let rows = self.items.iter().map(|hardened| {
            let left = match &hardened.error {
                Some(error) => error.clone(),
                None => hardened.left.join(", "),
            };
            [
                hardened.database.clone(),
                hardened.kind.clone(),
                hardened.protection.to_owned(),
                left,
            ]
        });
        table(["database", "kind", "protection", "left to PUBLIC"], rows)
    }
}

/// A server; its address stays out, for it holds a password.
#[derive(Serialize)]
struct Shown {
    id: ServerId,
    name: String,
    region: String,
    capacity: Option<i32>,
    tenants: i32,
    connections: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pooler: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    replicas: Vec<String>,
    /// Null for as many as configured.
    spare_schemas: Option<u16>,
    spare_databases: Option<u16>,
    state: String,
    version: String,
    created_at: DateTime<Utc>,
}

impl From<Server> for Shown {
    fn from(server: Server) -> Self {
        Self {
            id: server.id,
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

impl Shown {
    fn room(&self) -> String {
        self.capacity.map_or_else(
            || self.tenants.to_string(),
            |capacity| format!("{} of {capacity}", self.tenants),
        )
    }

    fn spares(&self) -> String {
        match (self.spare_schemas, self.spare_databases) {
            (None, None) => own_number(None),
            (schemas, databases) => format!("schemas {}, databases {}", own_number(schemas), own_number(databases)),
        }
    }
}

fn own_number(number: Option<u16>) -> String {
    number.map_or_else(|| "as configured".to_owned(), |number| number.to_string())
}

impl Answer for Shown {
    fn text(&self) -> String {
        fields([
            ("id", self.id.to_string()),
            ("name", self.name.clone()),
            ("region", self.region.clone()),
            ("tenants", self.room()),
            ("connections", self.connections.to_string()),
            ("replicas", none_or(&self.replicas)),
            ("spares", self.spares()),
            ("state", self.state.clone()),
            ("PostgreSQL", self.version.clone()),
        ])
    }
}

fn none_or(words: &[String]) -> String {
    match words {
        [] => "none".to_owned(),
        words => words.join(", "),
    }
}

impl Answer for List<Shown> {
    fn text(&self) -> String {
        let rows = self.items.iter().map(|server| {
            [
                server.name.clone(),
                server.region.clone(),
                server.room(),
                server.replicas.len().to_string(),
                server.spares(),
                server.state.clone(),
                server.version.clone(),
                time(server.created_at),
            ]
        });
        table(
            [
                "name",
                "region",
                "tenants",
                "replicas",
                "spares",
                "state",
                "PostgreSQL",
                "added",
            ],
            rows,
        )
    }
}

/// What was found of a replica.
#[derive(Serialize)]
struct CheckedReplica {
    address: String,
    reachable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    behind_bytes: Option<u64>,
    ok: bool,
    /// The command that takes it off the list, where nothing is read from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    take_off: Option<String>,
}

impl From<ReplicaCheck> for CheckedReplica {
    fn from(check: ReplicaCheck) -> Self {
        Self {
            address: check.address,
            reachable: check.reachable,
            take_off: check.take_off,
            behind_bytes: check.behind_bytes,
            ok: check.problem.is_none(),
        }
    }
}

/// What was found on a server.
#[derive(Serialize)]
struct Checked {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    /// What the server allows; how each database protects is told there.
    #[serde(skip_serializing_if = "Option::is_none")]
    tier: Option<&'static str>,
    databases: Vec<Hardened>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    replicas: Vec<CheckedReplica>,
    ok: bool,
    problems: Vec<String>,
}

impl Checked {
    /// `replica.example:5432, 0 bytes behind`, a line each.
    fn behind(&self) -> String {
        let lines: Vec<String> = self
            .replicas
            .iter()
            .map(|replica| match replica.behind_bytes {
                Some(bytes) => format!("{}, {bytes} bytes behind", replica.address),
                None => replica.address.clone(),
            })
            .collect();
        lines.join("\n")
    }

    /// `2 × T4, own and hardened, sealed` and so on, a line each.
    fn protections(&self) -> String {
        let mut counts = BTreeMap::new();
        for database in &self.databases {
            *counts.entry(database.protection).or_insert(0_u32) += 1;
        }
        let lines: Vec<String> = counts
            .into_iter()
            .rev()
            .map(|(protection, count)| format!("{count} × {protection}"))
            .collect();
        lines.join("\n")
    }
}

impl Answer for List<Checked> {
    fn text(&self) -> String {
        let rows = self.items.iter().map(|checked| {
            let found = if checked.ok {
                "well".to_owned()
            } else {
                checked.problems.join("\n")
            };
            [
                checked.name.clone(),
                checked.version.clone().unwrap_or_default(),
                checked.tier.unwrap_or_default().to_owned(),
                checked.protections(),
                checked.behind(),
                found,
            ]
        });
        table(["name", "PostgreSQL", "tier", "databases", "replicas", "found"], rows)
    }
}

impl From<ServerCheck> for Checked {
    fn from(check: ServerCheck) -> Self {
        Self {
            name: check.name,
            version: check.server_version.map(version),
            tier: check.tier.map(Tier::as_str),
            databases: Vec::new(),
            replicas: check.replicas.into_iter().map(CheckedReplica::from).collect(),
            ok: check.problems.is_empty(),
            problems: check.problems,
        }
    }
}

/// Runs the command.
pub(super) async fn run(command: Command, config: &Config, output: Output) -> Result<(), Failure> {
    let ops = connect::ops(config).await?;
    match command {
        Command::Add(add) => run_add(&ops, add, output).await,
        Command::Set(set) => run_set(&ops, set, output).await,
        Command::List => {
            let servers = ops.list_servers(&authority()).await?;
            Ok(output.answer(&List {
                items: servers.into_iter().map(Shown::from).collect(),
            })?)
        }
        Command::Check(check) => run_check(&ops, check.server, output).await,
        Command::Drain(drain) => balance::drain(&ops, drain, output).await,
        Command::Rebalance(rebalance) => balance::rebalance(&ops, &rebalance, output).await,
        Command::Harden(harden) => run_harden(&ops, harden, output).await,
    }
}

async fn run_add(ops: &Ops, add: Add, output: Output) -> Result<(), Failure> {
    let url = if add.url == "-" { read_line()? } else { add.url };
    let request = ServerRequest {
        name: add.name,
        region: add.region,
        capacity: add.capacity,
        connections: add.connections,
        admin_url: SecretString::from(url),
    };
    let progress = Progress::start(output);
    progress.step("preparing the server");
    let added = ops.add_server(&authority(), &request).await;
    progress.end();
    Ok(output.answer(&Shown::from(added?))?)
}

async fn run_set(ops: &Ops, set: Set, output: Output) -> Result<(), Failure> {
    let url = match set.url.as_deref() {
        Some("-") => Some(read_line()?),
        _ => set.url,
    };
    let change = ServerChange {
        admin_url: url.map(SecretString::from),
        connections: set.connections,
        pooler: match (set.pooler, set.no_pooler) {
            (Some(address), _) => Some(Some((Pooler::Transaction, address))),
            (None, true) => Some(None),
            (None, false) => None,
        },
        replicas: (set.no_replicas || !set.replicas.is_empty()).then_some(set.replicas),
        spare_schemas: own_spares(set.own_spare_schemas, set.no_own_spares),
        spare_databases: own_spares(set.own_spare_databases, set.no_own_spares),
        new_passwords: set.new_passwords,
    };
    let changed = ops.change_server(&authority(), &set.name, &change).await?;
    Ok(output.answer(&Shown::from(changed))?)
}

/// What is said of a number of spares: nothing, one of the server's own, or that it has none any more.
fn own_spares(said: Option<u16>, none: bool) -> Option<Option<u16>> {
    match said {
        Some(number) => Some(Some(number)),
        None => none.then_some(None),
    }
}

async fn run_check(ops: &Ops, only: Option<String>, output: Output) -> Result<(), Failure> {
    let names = match only {
        Some(name) => vec![name],
        None => ops
            .list_servers(&authority())
            .await?
            .into_iter()
            .map(|server| server.name)
            .collect(),
    };
    let mut items = Vec::new();
    for name in names {
        items.push(Checked::from(ops.check_server(&authority(), &name).await?));
    }
    for database in ops.check_hardening(&authority()).await? {
        if let Some(checked) = items.iter_mut().find(|checked| checked.name == database.server) {
            checked.databases.push(database.into());
        }
    }
    let bad: Vec<&str> = items
        .iter()
        .filter(|checked| !checked.ok)
        .map(|checked| checked.name.as_str())
        .collect();
    let verdict = match bad.as_slice() {
        [] => Ok(()),
        bad => Err(Failure::failed(format!("not as it should be: {}", bad.join(", ")))),
    };
    output.answer(&List { items })?;
    verdict
}

async fn run_harden(ops: &Ops, harden: Harden, output: Output) -> Result<(), Failure> {
    let except: Vec<&str> = harden.except.iter().map(String::as_str).collect();
    let change = match harden.undo {
        true => HardeningChange::Undo,
        false => HardeningChange::Harden { except: &except },
    };
    let changed = ops
        .change_hardening(&authority(), &harden.server, harden.database.as_deref(), change)
        .await?;
    let items: Vec<Hardened> = changed.into_iter().map(Hardened::from).collect();
    let is_left = |hardened: &Hardened| {
        let asked = |group: &&str| !harden.undo && !harden.except.iter().any(|except| except == group);
        hardened.error.is_some() || hardened.left.iter().any(asked)
    };
    let left = items.iter().filter(|hardened| is_left(hardened)).count();
    let failed: Vec<String> = items
        .iter()
        .filter_map(|hardened| Some(format!("{}: {}", hardened.database, hardened.error.as_ref()?)))
        .collect();
    output.answer(&List { items })?;
    match (left, failed.first()) {
        (0, _) => Ok(()),
        (left, Some(first)) => Err(Failure::failed(format!(
            "{left} databases are not as asked, and {} of them could not be worked on ({first}): mend that and run this again",
            failed.len()
        ))),
        (_, None) => Err(Failure::failed(
            "not all could be done: system functions are a superuser's, see docs/hardening.md",
        )),
    }
}

fn read_line() -> Result<String, Failure> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    match line.trim() {
        "" => Err(Failure::usage(
            "--url - was given, but the first line of stdin is empty",
        )),
        url => Ok(url.to_owned()),
    }
}

/// `server_version_num` as people know it.
fn version(number: i32) -> String {
    format!("{}.{}", number / 10_000, number % 10_000)
}
