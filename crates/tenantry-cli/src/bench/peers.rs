//! The same fleet by django-tenants, on the same PostgreSQL in the same run.
//!
//! Its Python comes from outside (`--python`): `cargo xtask bench fleet` makes one. The orders and their clock are in
//! `peers/peer.py`.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::{Value, json};
use tenantry_core::Isolation;
use tenantry_engine::migrate::Files;
use tenantry_ops::{Ops, Rollout};

use super::{
    create,
    folder::Folder,
    measure::Spread,
    report::{Finding, Target},
    run::Run,
    script,
    world::{self, World, authority, ops_with},
};

/// Tenants with a schema each.
const SCHEMAS: usize = 200;
/// Tenants of each side that are made before it is the other's turn.
const AT_ONCE: usize = 25;
/// Rounds of what takes seconds.
const ROUNDS_MAX: u32 = 3;

const EXECUTORS: [&str; 2] = ["standard", "multiprocessing"];

/// Every line that compares with it.
pub(super) async fn all(run: &Run, python: &Path) -> Result<Vec<Finding>> {
    let rounds = run.plan.rounds.clamp(1, ROUNDS_MAX);
    let mut fleet = Fleet::start(&run.world, python).await?;
    let create = fleet.create().await?;
    let nothing = fleet.nothing_pending(rounds).await?;
    let column = fleet.column(rounds).await?;
    let spares = fleet.create_from_spares().await?;
    Ok([create, nothing, column, spares].concat())
}

/// Both sides.
struct Fleet<'a> {
    world: &'a World,
    /// Makes a tenant by its migrations.
    plain: Peer,
    /// Makes a tenant by a clone of a schema.
    clones: Peer,
    /// Our tenants' schemas.
    schemas: BTreeSet<String>,
    /// Our migrations beyond the application's own.
    more: Vec<(String, String)>,
}

impl<'a> Fleet<'a> {
    async fn start(world: &'a World, python: &Path) -> Result<Self> {
        let mut admin = world.admin("postgres").await?;
        let mut peers = Vec::new();
        for (database, clones) in [("peer_plain", false), ("peer_clones", true)] {
            admin.batch(&format!("create database {database}")).await?;
            let mut peer = Peer::start(world, python, database, clones)?;
            for (number, (name, sql)) in tenantry_crm::MIGRATIONS.iter().enumerate() {
                let name = name.strip_suffix(".sql").unwrap_or(name);
                ensure!(
                    name.starts_with(&format!("{:04}", number + 1)),
                    "the migrations have gaps"
                );
                peer.order(json!({ "do": "add_migration", "name": name, "sql": sql }))?;
            }
            peer.order(json!({ "do": "prepare" }))?;
            peers.push(peer);
        }
        let (Some(clones), Some(plain)) = (peers.pop(), peers.pop()) else {
            bail!("two peers were started");
        };
        let mut fleet = Self {
            world,
            plain,
            clones,
            schemas: BTreeSet::new(),
            more: Vec::new(),
        };
        fleet.schemas = fleet.known().await?;
        Ok(fleet)
    }

    /// Tenants one after the other, in turns.
    async fn create(&mut self) -> Result<Vec<Finding>> {
        let (mut ours, mut plain, mut clones) = (Vec::new(), Vec::new(), Vec::new());
        for slice in 0..SCHEMAS / AT_ONCE {
            plain.push(self.plain.create(slice)?);
            clones.push(self.clones.create(slice)?);
            ours.push(make(&self.world.ops).await?);
        }
        self.schemas = self.known().await?.difference(&self.schemas).cloned().collect();
        ensure!(
            self.schemas.len() == SCHEMAS,
            "{} schemas were made",
            self.schemas.len()
        );
        Ok(vec![compared(
            "peer-create",
            format!("creating {SCHEMAS} tenants with a schema each, one after the other, without spares"),
            2.2,
            &ours,
            &[("by its migrations", &plain), ("by a clone of a schema", &clones)],
            AT_ONCE,
        )])
    }

    async fn create_from_spares(&mut self) -> Result<Vec<Finding>> {
        let ops = world::ops_of(self.world, |fleet| fleet.spare_schemas = AT_ONCE);
        let (mut ours, mut plain, mut clones) = (Vec::new(), Vec::new(), Vec::new());
        for slice in 0..SCHEMAS / AT_ONCE {
            plain.push(self.plain.create(slice + SCHEMAS)?);
            clones.push(self.clones.create(slice + SCHEMAS)?);
            ensure!(ops.make_spare_schemas().await? == AT_ONCE, "a spare was not handed out");
            ours.push(make(&ops).await?);
        }
        Ok(vec![compared(
            "peer-create-spare",
            format!("creating {SCHEMAS} tenants with a schema each, one after the other, handed out from spares"),
            10.0,
            &ours,
            &[("by its migrations", &plain), ("by a clone of a schema", &clones)],
            AT_ONCE,
        )])
    }

    /// A run that finds everything done.
    async fn nothing_pending(&mut self, rounds: u32) -> Result<Vec<Finding>> {
        let ops = self.ops()?;
        ops.derive_migrations().await?;
        let (mut ours, mut theirs) = (Vec::new(), [Vec::new(), Vec::new()]);
        for _ in 0..rounds {
            for (executor, times) in EXECUTORS.iter().zip(&mut theirs) {
                times.push(self.plain.migrate(executor)?);
            }
            let begun = Instant::now();
            let report = ops.apply_migrations(&authority()).await?;
            ours.push(begun.elapsed());
            ensure!(
                report.applied.is_empty() && report.failed.is_empty(),
                "something was pending"
            );
        }
        let [standard, multiprocessing] = &theirs;
        Ok(vec![compared(
            "peer-nothing",
            format!("a run over {SCHEMAS} schemas with nothing pending"),
            200.0,
            &ours,
            &[
                ("standard executor", standard),
                ("multiprocessing executor", multiprocessing),
            ],
            1,
        )])
    }

    /// A column and an index in every schema, with two connections as the multiprocessing executor has on two cores; and by
    /// psql, over one connection and with a transaction for each schema.
    async fn column(&mut self, rounds: u32) -> Result<Vec<Finding>> {
        let (mut ours, mut theirs, mut psql) = (Vec::new(), [Vec::new(), Vec::new()], Vec::new());
        for round in 0..rounds {
            for (executor, times) in EXECUTORS.iter().zip(&mut theirs) {
                let column = format!("{executor}_{round}");
                let sql = format!("alter table contacts add column {column} text; create index on contacts ({column})");
                let number = tenantry_crm::MIGRATIONS.len() + self.plain.migrations + 1;
                let name = format!("{number:04}_{column}");
                self.plain
                    .order(json!({ "do": "add_migration", "name": name, "sql": sql }))?;
                self.plain.migrations += 1;
                times.push(self.plain.migrate(executor)?);
                let has = self.plain.order(json!({ "do": "count", "column": column }))?.value;
                ensure!(
                    has == json!(SCHEMAS + 1),
                    "{has} schemas have the column, with the template"
                );
            }
            psql.push(self.by_psql(&format!("psql_{round}"))?);
            ours.push(self.roll_out(round).await?);
        }
        let [standard, multiprocessing] = &theirs;
        Ok(vec![
            compared(
                "peer-column",
                format!("add column and create index in {SCHEMAS} schemas, 2 connections"),
                30.0,
                &ours,
                &[
                    ("standard executor", standard),
                    ("multiprocessing executor", multiprocessing),
                ],
                1,
            ),
            Finding::new(
                "peer-column-psql",
                format!("the same by us on 2 connections, in {SCHEMAS} schemas"),
                "the isolated DDL by psql, one connection, a transaction a schema, no ledger: the limit; time to time",
                Spread::of(
                    ours.iter()
                        .zip(&psql)
                        .map(|(ours, psql)| ours.as_secs_f64() / psql.as_secs_f64()),
                ),
                Target::None,
            )
            .detail(format!("{:.0} ms against {:.0} ms", median_ms(&ours), median_ms(&psql))),
        ])
    }

    async fn roll_out(&mut self, round: u32) -> Result<Duration> {
        let number = tenantry_crm::MIGRATIONS.len() + self.more.len() + 1;
        let column = format!("ours_{round}");
        self.more.push((
            format!("{number:04}_{column}.sql"),
            format!("alter table contacts add column {column} text; create index on contacts ({column});"),
        ));
        let ops = self.ops()?;
        // What it becomes is worked out once for a fleet of any size.
        ops.derive_migrations().await?;
        let mut rollout = Rollout::default();
        rollout.per_server = 2;
        let begun = Instant::now();
        let report = ops.roll_out(&authority(), &rollout, &|_| {}).await?;
        let time = begun.elapsed();
        ensure!(
            report.failed.is_empty() && report.applied.len() >= SCHEMAS,
            "{} schemas stayed behind",
            report.failed.len()
        );
        Ok(time)
    }

    fn by_psql(&self, column: &str) -> Result<Duration> {
        let mut text = String::new();
        for schema in &self.schemas {
            text += &format!(
                "begin; alter table {schema}.contacts add column {column} text;
                 create index on {schema}.contacts (tenant_id, {column}); commit;\n"
            );
        }
        script::by_psql(self.world, &self.world.schema.database, &text)
    }

    fn ops(&self) -> Result<Ops> {
        let own = tenantry_crm::MIGRATIONS
            .iter()
            .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
        let files = Files::from_embedded(own.chain(self.more.iter().cloned()))?;
        Ok(ops_with(self.world.ops.catalog().clone(), Arc::new(files)))
    }

    /// The own schemas of the shared tenant database.
    async fn known(&self) -> Result<BTreeSet<String>> {
        let client = self.world.ops.catalog().client().await?;
        let sql = "select schema_name from placement where isolation = 'schema' and ready";
        let rows = client.query(sql, &[]).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }
}

async fn make(ops: &Ops) -> Result<Duration> {
    let begun = Instant::now();
    for _ in 0..AT_ONCE {
        create::make_by(ops, Isolation::Schema).await?;
    }
    Ok(begun.elapsed())
}

/// How many times faster we are than their best way, round by round; each time is of so many things.
fn compared(
    name: &'static str,
    what: String,
    target: f64,
    ours: &[Duration],
    ways: &[(&str, &Vec<Duration>)],
    things: usize,
) -> Finding {
    let best = ways.iter().min_by(|a, b| median_ms(a.1).total_cmp(&median_ms(b.1)));
    let best: &[Duration] = best.map_or(&[], |(_, times)| times);
    let ratios = ours
        .iter()
        .zip(best)
        .map(|(ours, best)| best.as_secs_f64() / ours.as_secs_f64());
    let each = |times: &[Duration]| median_ms(times) / things as f64;
    let theirs: Vec<String> = ways
        .iter()
        .map(|(way, times)| format!("{:.1} ms ({way})", each(times)))
        .collect();
    Finding::new(
        name,
        what,
        "django-tenants, its best way: how many times faster",
        Spread::of(ratios),
        Target::AtLeast(target),
    )
    .detail(format!("{:.1} ms against {}", each(ours), theirs.join(" and ")))
}

fn median_ms(times: &[Duration]) -> f64 {
    Spread::of(times.iter().map(|time| time.as_secs_f64() * 1e3)).median
}

/// A Python with django-tenants that waits for orders; killed and cleared away when this is dropped.
struct Peer {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
    /// Of the process: after it.
    _folder: Folder,
    /// Beyond the application's own.
    migrations: usize,
}

#[derive(Deserialize)]
struct Answered {
    seconds: f64,
    value: Value,
}

impl Peer {
    fn start(world: &World, python: &Path, database: &str, clones: bool) -> Result<Self> {
        let folder = Folder::make(&format!("tenantry-{database}"))?;
        let there = folder.path();
        for module in ["customers", "crm", "crm/migrations"] {
            fs::create_dir_all(there.join(module))?;
            fs::write(there.join(module).join("__init__.py"), "")?;
        }
        fs::write(there.join("peer.py"), include_str!("peers/peer.py"))?;
        fs::write(there.join("customers/models.py"), include_str!("peers/customers.py"))?;
        let url: tokio_postgres::Config = world.cluster.admin_url(database).parse()?;
        let address = json!({
            "NAME": database,
            "USER": url.get_user(),
            "PASSWORD": url.get_password().map(String::from_utf8_lossy),
            "HOST": world.cluster.host(),
            "PORT": url.get_ports().first(),
        });
        let mut child = Command::new(python)
            .arg(there.join("peer.py"))
            .env("PEER_DATABASE", address.to_string())
            .env("PEER_CLONES", if clones { "1" } else { "0" })
            .env("PYTHONWARNINGS", "ignore")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("{} does not run", python.display()))?;
        let (Some(orders), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("the peer has no pipes");
        };
        Ok(Self {
            child,
            orders,
            answers: BufReader::new(answers),
            _folder: folder,
            migrations: 0,
        })
    }

    fn order(&mut self, order: Value) -> Result<Answered> {
        writeln!(self.orders, "{order}")?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        serde_json::from_str(&line).with_context(|| format!("django-tenants failed at {}: see above", order["do"]))
    }

    fn time(&mut self, order: Value) -> Result<Duration> {
        Ok(Duration::from_secs_f64(self.order(order)?.seconds))
    }

    fn create(&mut self, slice: usize) -> Result<Duration> {
        let names: Vec<String> = (0..AT_ONCE).map(|n| format!("tenant_{slice}_{n}")).collect();
        self.time(json!({ "do": "create", "names": names }))
    }

    fn migrate(&mut self, executor: &str) -> Result<Duration> {
        self.time(json!({ "do": "migrate", "executor": executor }))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It ends by itself when its orders end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
