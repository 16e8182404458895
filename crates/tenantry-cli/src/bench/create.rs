//! What making a tenant costs.

use std::{
    fs,
    io::{Read, Seek, SeekFrom},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use tenantry_core::Isolation;
use tenantry_ops::{Ops, TenantRequest};
use uuid::Uuid;

use super::{
    measure::Spread,
    report::{Finding, Target},
    run::Run,
    world::{self, World, authority},
};

/// Marks the lines of the server's log that tell a statement: database, virtual transaction.
const LOG_PREFIX: &str = "bench:%d:%v:";

/// A tenant in shared tables: PostgreSQL's own log is counted.
pub(super) async fn shared(run: &Run) -> Result<Finding> {
    let world = &run.world;
    let mut admin = world.admin("postgres").await?;
    for setting in [
        format!("alter system set log_line_prefix = '{LOG_PREFIX}'"),
        "alter system set log_statement = 'all'".to_owned(),
    ] {
        admin.batch(&setting).await?;
    }
    reload(world).await?;
    let begin = fs::metadata(world.cluster.log_file())?.len();
    let time = make(world, Isolation::Shared).await?;
    for setting in ["log_statement", "log_line_prefix"] {
        admin.batch(&format!("alter system reset {setting}")).await?;
    }
    reload(world).await?;
    let log = logged(world, begin)?;
    let prefix = format!("bench:{}:", world.shared[0].database);
    let statements: Vec<&str> = log
        .lines()
        .filter_map(|line| line.strip_prefix(&prefix))
        .filter(|line| line.contains("LOG:  statement: ") || line.contains("LOG:  execute "))
        .collect();
    ensure!(!statements.is_empty(), "PostgreSQL's log tells of no statement");
    let mut transactions: Vec<&str> = statements.iter().filter_map(|line| line.split(':').next()).collect();
    transactions.sort_unstable();
    transactions.dedup();
    for line in &statements {
        tracing::info!("{line}");
    }
    Ok(Finding::new(
        "create-shared",
        "creating a tenant in shared tables: statements in the tenant database",
        "–",
        Spread::of([statements.len() as f64]),
        Target::AtMost(9.0),
    )
    .unit("statements")
    .detail(format!(
        "{} transaction(s) there; {:.0} ms in all",
        transactions.len(),
        time.as_secs_f64() * 1e3
    )))
}

/// Whether a tenant is made by a process that has just made another one in the same database.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Before {
    Nothing,
    Another,
}

/// A tenant with its own schema, against the finished tables in one message.
pub(super) async fn schema(run: &Run, name: &'static str, before: Before) -> Result<Finding> {
    let world = &run.world;
    let ddl = final_ddl(world)?;
    let (mut ratios, mut ours, mut others) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=run.plan.rounds {
        // One of its own has no connection at hand.
        let ops = match before {
            Before::Nothing => world::ops_of(world, |_| {}),
            Before::Another => world.ops.clone(),
        };
        ops.derive_migrations().await?;
        let plain = apply(world, &ddl).await?;
        let whole = make_by(&ops, Isolation::Schema).await?;
        if round > 0 {
            ratios.push(whole.as_secs_f64() / plain.as_secs_f64());
            ours.push(whole.as_secs_f64() * 1e3);
            others.push(plain.as_secs_f64() * 1e3);
        }
    }
    let what = match before {
        Before::Nothing => "creating a tenant with its own schema: whole operation",
        Before::Another => "the same right after another one in the same database",
    };
    Ok(Finding::new(
        name,
        what,
        "its final isolated DDL (by pg_dump) in one message on a new connection, time to time",
        Spread::of(ratios),
        Target::AtMost(1.3),
    )
    .detail(format!(
        "{:.0} ms against {:.0} ms",
        Spread::of(ours).median,
        Spread::of(others).median
    )))
}

/// A tenant that gets a database made in advance.
pub(super) async fn spare_database(run: &Run) -> Result<Finding> {
    const COUNT: usize = 10;
    let ops = world::ops_of(&run.world, |fleet| fleet.spare_databases = COUNT);
    ensure!(
        ops.order_spare_databases().await? == COUNT,
        "not all spares are missing"
    );
    let runner = tokio::spawn({
        let ops = ops.clone();
        async move { ops.run_operations().await }
    });
    let until = Instant::now() + Duration::from_secs(60);
    while !ops
        .list_operations(&authority(), None, None, 1_000)
        .await?
        .iter()
        .all(|operation| operation.state.is_final())
    {
        ensure!(Instant::now() < until, "the spare databases are not made");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    runner.abort();
    let mut times_ms = Vec::new();
    for _ in 0..COUNT {
        times_ms.push(make_by(&ops, Isolation::Database).await?.as_secs_f64() * 1e3);
    }
    ensure!(
        ops.order_spare_databases().await? == COUNT,
        "a spare was not handed out"
    );
    Ok(Finding::new(
        "create-spare-database",
        "creating a tenant with its own database from a spare: whole operation",
        "–",
        Spread::of(times_ms),
        Target::AtMost(50.0),
    )
    .unit("ms"))
}

pub(super) async fn make(world: &World, isolation: Isolation) -> Result<Duration> {
    make_by(&world.ops, isolation).await
}

pub(super) async fn make_by(ops: &Ops, isolation: Isolation) -> Result<Duration> {
    let slug = format!("made-{}", Uuid::new_v4().simple());
    let mut request = TenantRequest::new(slug.parse()?, slug.parse()?);
    request.isolation = Some(isolation);
    let begun = Instant::now();
    ops.create_tenant(&authority(), &request, None).await?;
    Ok(begun.elapsed())
}

/// A tenant that gets a schema made in advance.
pub(super) async fn spare(run: &Run) -> Result<Finding> {
    let count = run.plan.rounds.max(2) as usize;
    let ops = world::ops_of(&run.world, |fleet| fleet.spare_schemas = count);
    let made = ops.make_spare_schemas().await?;
    ensure!(made == count, "{made} of {count} spares were made");
    let mut times_ms = Vec::new();
    for _ in 0..count {
        times_ms.push(make_by(&ops, Isolation::Schema).await?.as_secs_f64() * 1e3);
    }
    ensure!(ops.make_spare_schemas().await? == count, "a spare was not handed out");
    Ok(Finding::new(
        "create-spare",
        "creating a tenant with its own schema from a spare: whole operation",
        "–",
        Spread::of(times_ms),
        Target::AtMost(20.0),
    )
    .unit("ms"))
}

async fn apply(world: &World, ddl: &str) -> Result<Duration> {
    let name = format!("plain_{}", Uuid::new_v4().simple());
    let ddl = ddl.replace(&world.schema.schema, &name);
    let begun = Instant::now();
    world.admin(&world.schema.database).await?.batch(&ddl).await?;
    Ok(begun.elapsed())
}

/// The own schema as it stands, as PostgreSQL's own tool writes it.
fn final_ddl(world: &World) -> Result<String> {
    let output = world
        .cluster
        .binaries()
        .command("pg_dump")
        .args(["--schema-only", "--schema", &world.schema.schema])
        .arg(world.cluster.admin_url(&world.schema.database))
        .output()
        .context("pg_dump does not run; this line needs PostgreSQL's client programs")?;
    ensure!(
        output.status.success(),
        "pg_dump failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout)?;
    // Newer versions guard the script by commands that only psql understands.
    let lines = text.lines().filter(|line| !line.starts_with('\\'));
    Ok(lines.fold(String::new(), |ddl, line| ddl + line + "\n"))
}

async fn reload(world: &World) -> Result<()> {
    let mut admin = world.admin("postgres").await?;
    admin.query("select pg_reload_conf()", &[]).await?;
    // Processes read their settings when they are between two statements; new connections have them.
    let until = Instant::now() + Duration::from_secs(1);
    while Instant::now() < until {
        admin.query("select 1", &[]).await?;
    }
    Ok(())
}

fn logged(world: &World, begin: u64) -> Result<String> {
    let mut file = fs::File::open(world.cluster.log_file())?;
    file.seek(SeekFrom::Start(begin))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
