//! Which lines there are, and running them.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use tenantry_postgres::Binaries;

use super::{
    access, cache,
    cpu::CpuMeter,
    create,
    crowd::Sizes,
    fleet, homes, http, jobs, limiter,
    measure::Plan,
    memory, moves, peers,
    placed::Placed,
    report::{Finding, Machine, Report},
    resolve, scale, sealing, servers, tails,
    world::{CROWD, World},
};

/// What every line needs.
pub(super) struct Run {
    pub(super) world: World,
    pub(super) meter: CpuMeter,
    pub(super) plan: Plan,
    pub(super) sizes: Sizes,
}

/// What to measure.
pub(crate) struct Wanted {
    pub(crate) rounds: u32,
    /// Fleets of a handful, so that a test can go the same ways.
    pub(crate) small: bool,
    /// A Python with django-tenants, for the lines that compare with it.
    pub(crate) python: Option<PathBuf>,
    /// These lines; all but those that take long where it is empty.
    pub(crate) only: Vec<String>,
}

impl Wanted {
    fn has(&self, name: &str) -> bool {
        if self.only.is_empty() {
            return !ON_DEMAND.contains(&name);
        }
        self.only.iter().any(|only| only == name)
    }
}

/// A line of the table, by its name.
pub(crate) const NAMES: &[&str] = &[
    "point-1",
    "point-16",
    "rebind",
    "usual",
    #[cfg(feature = "bench-sqlx")]
    "usual-sqlx",
    "list",
    "list-16",
    "insert-1",
    "insert-16",
    "own-schema",
    "own-database",
    "sealing",
    "resolve",
    "cache",
    "http",
    "http-one-tenant",
    "observed",
    "limiter",
    "create-shared",
    "create-schema",
    "create-schema-next",
    "create-spare",
    "create-spare-database",
    "costs",
    "fleet",
    "memory",
    "peers",
    "noisy",
    "million",
    "schemas",
    "skew",
    "jobs",
    "moves",
    "servers",
];

/// Lines that take minutes, or something that is not there: only where they are named.
const ON_DEMAND: &[&str] = &["peers", "million", "schemas", "skew", "jobs", "moves", "servers"];

/// Lines in which one caller calls one connection.
const ONE_CONNECTION: &[&str] = &[
    "point-1",
    "rebind",
    "usual",
    "usual-sqlx",
    "list",
    "insert-1",
    "own-schema",
    "own-database",
];

/// Measures these lines on a private PostgreSQL of their own.
///
/// # Errors
///
/// When a line can't be measured.
pub(crate) async fn run(
    binaries: Binaries,
    wanted: &Wanted,
    progress: impl Fn(&str),
    stop: impl Future<Output = ()>,
) -> Result<Report> {
    let postgres = binaries.version().to_string();
    progress("making a PostgreSQL with tenants in each isolation");
    let world = World::build(binaries).await?;
    let run = Run {
        meter: CpuMeter::new(world.cluster.pid()),
        world,
        plan: Plan::new(wanted.rounds),
        sizes: if wanted.small { Sizes::SMALL } else { Sizes::PROMISED },
    };
    // Dropped where it stands, a line stops what it has started; so does what it is measured on.
    let findings = tokio::select! {
        found = run.lines(wanted, &progress) => found?,
        () = stop => anyhow::bail!("stopped: nothing was written"),
    };
    run.world.end().await?;
    Ok(Report {
        machine: Machine::here(postgres),
        findings,
    })
}

impl Run {
    async fn lines(&self, wanted: &Wanted, progress: &dyn Fn(&str)) -> Result<Vec<Finding>> {
        let mut findings = Vec::new();
        for name in NAMES.iter().copied().filter(|name| wanted.has(name)) {
            progress(name);
            match name {
                "costs" => findings.extend(homes::costs(self).await?),
                "limiter" => findings.extend(limiter::all(self.plan)?),
                "fleet" => findings.extend(fleet::all(self).await?),
                "million" => findings.extend(scale::million(self, progress).await?),
                "schemas" => findings.extend(scale::schemas(self, progress).await?),
                "jobs" => findings.extend(jobs::all(self, wanted.small, progress).await?),
                "moves" => findings.extend(moves::all(self, wanted.small, progress).await?),
                "servers" => findings.push(servers::two(self, progress).await?),
                "skew" => findings.extend(tails::many_databases(self, progress).await?),
                "peers" => {
                    let python = wanted.python.as_deref();
                    let python = python.context("`peers` needs `--python`: `cargo xtask bench fleet` makes one")?;
                    findings.extend(peers::all(self, python).await?);
                }
                _ => {
                    let postmaster = self.world.cluster.pid();
                    let _placed = match name {
                        "sealing" => Some(Placed::together(postmaster)),
                        _ => ONE_CONNECTION.contains(&name).then(|| Placed::apart(postmaster)),
                    };
                    findings.push(self.line(name).await?);
                }
            }
        }
        Ok(findings)
    }

    async fn line(&self, name: &'static str) -> Result<Finding> {
        match name {
            "point-1" => access::point(self, name, 1).await,
            "point-16" => access::point(self, name, CROWD).await,
            "rebind" => access::rebind(self).await,
            "usual" => access::usual(self).await,
            #[cfg(feature = "bench-sqlx")]
            "usual-sqlx" => super::usual_sqlx::usual(self).await,
            "list" => access::list(self, name, 1).await,
            "list-16" => access::list(self, name, CROWD).await,
            "insert-1" => access::insert(self, name, 1).await,
            "insert-16" => access::insert(self, name, CROWD).await,
            "own-schema" => access::own(self, name, &self.world.schema, "a schema").await,
            "own-database" => access::own(self, name, &self.world.database, "a database").await,
            "sealing" => sealing::sealing(self).await,
            "resolve" => resolve::resolve(self).await,
            "cache" => cache::read(self).await,
            "http" => http::contact(self).await,
            "http-one-tenant" => http::contact_of_one(self).await,
            "observed" => http::observed(self).await,
            "create-shared" => create::shared(self).await,
            "create-schema" => create::schema(self, name, create::Before::Nothing).await,
            "create-schema-next" => create::schema(self, name, create::Before::Another).await,
            "create-spare" => create::spare(self).await,
            "create-spare-database" => create::spare_database(self).await,
            "memory" => memory::serve(self).await,
            "noisy" => tails::noisy(self).await,
            other => anyhow::bail!("there is no line `{other}`"),
        }
    }
}
