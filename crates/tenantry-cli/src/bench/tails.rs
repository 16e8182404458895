//! What the slowest of a hundred calls wait, where one tenant or many are in the way. Calls arrive when they do, whether or not
//! the ones before have ended, and their time counts from then.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use rand::RngExt as _;
use tenantry::{PoolConfig, ResolverConfig, Scope, TenantId, Tenantry};
use tenantry_core::Isolation;
use tenantry_wire::Connection;
use tokio::task::JoinSet;

use super::{
    create,
    crowd::{self, Crowd, Place},
    measure::Spread,
    report::{Finding, Target},
    run::Run,
    world::{CROWD, World},
};

const ROUNDS_MAX: u32 = 5;
/// How often a call is for one of the databases that are asked for most.
const HOT_SHARE: f64 = 0.998;
/// Other shares, without a target.
const OTHER_SHARES: [f64; 3] = [0.99, 0.95, 0.8];
/// A point query by a key that each tenant has.
const QUERY: &str = "select name, phone from contacts where email = 'person-1@example.com'";

/// A handle with one budget of connections over all tenant databases of a server.
///
/// This is the only place that knows how it is set.
pub(super) fn budgeted(world: &World, connections: usize) -> Result<Tenantry> {
    let pool = PoolConfig {
        connections_max: connections,
        server_connections_max: connections,
        ..PoolConfig::default()
    };
    Ok(Tenantry::on_catalog(
        world.ops.catalog().clone(),
        ResolverConfig::new("tenantry", "tenantry"),
        pool,
    )?)
}

/// Tenant B's calls alone, and while A sends ten times its share of what the connections serve at most.
pub(super) async fn noisy(run: &Run) -> Result<Finding> {
    let (world, round) = (&run.world, run.sizes.round);
    let handle = world.handle(CROWD)?;
    let mut scopes = Vec::new();
    for home in &world.shared {
        let scope = handle.system_context(home.id, "benchmark").await?;
        scopes.push(Arc::new(Callee { scope, expects: 1 }));
    }
    let all = saturation(&scopes, CROWD, round).await?;
    let share = all / CROWD as f64;
    let (a, b) = (Arc::clone(&scopes[0]), Arc::clone(&scopes[1]));
    let (mut ratios, mut alone_ms, mut beside_ms, mut refused) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for _ in 0..run.plan.rounds.min(ROUNDS_MAX) {
        let alone = arrive(share, round, |_| Arc::clone(&b)).await?;
        let noise = tokio::spawn({
            let a = Arc::clone(&a);
            async move { arrive(share * 10.0, round, move |_| Arc::clone(&a)).await }
        });
        let beside = arrive(share, round, |_| Arc::clone(&b)).await?;
        let noise = noise.await??;
        // Of the noisy one some may be refused: what it sends beyond its own queue is its own affair.
        ensure!(
            alone.failed + beside.failed == 0,
            "a call of the quiet tenant was not served"
        );
        refused += noise.failed;
        ratios.push(beside.p99_ms / alone.p99_ms);
        alone_ms.push(alone.p99_ms);
        beside_ms.push(beside.p99_ms);
    }
    Ok(Finding::new(
        "noisy",
        "tenant B's p99 while tenant A sends 10 times its share (a sixteenth of what 16 connections serve at most)",
        "B alone, at its share",
        Spread::of(ratios),
        Target::AtMost(1.25),
    )
    .detail(format!(
        "{:.2} ms against {:.2} ms; B sends {share:.0}/s, A {:.0}/s, of whose calls {refused} were refused",
        Spread::of(beside_ms).median,
        Spread::of(alone_ms).median,
        share * 10.0
    )))
}

/// Many databases on a budget of connections, against the same arrivals in one.
pub(super) async fn many_databases(run: &Run, progress: &dyn Fn(&str)) -> Result<Vec<Finding>> {
    let (world, sizes) = (&run.world, run.sizes);
    let (one, many) = populate(run, progress).await?;
    // What is compared and what it is compared with are two sets of pools, and the world has a third: each is bounded by itself, so
    // the server has to have enough for all of them.
    let client = world.ops.catalog().client().await?;
    client
        .execute(
            "update server set connections = $1",
            &[&i32::try_from(4 * sizes.budget)?],
        )
        .await?;
    progress("skew: saturation of one database");
    let in_one = targets(&budgeted(world, sizes.budget)?, &one).await?;
    let rate = saturation(&in_one, sizes.budget, sizes.round).await? / 2.0;
    let mut findings = Vec::new();
    for share in [HOT_SHARE].into_iter().chain(OTHER_SHARES) {
        progress(&format!("skew: {share}"));
        let rounds = run.plan.rounds.min(if share == HOT_SHARE { 3 } else { 1 });
        findings.push(skew(run, &in_one, &many, rate, share, rounds).await?);
    }
    Ok(findings)
}

async fn skew(
    run: &Run,
    in_one: &[Arc<Callee>],
    many: &[Vec<TenantId>],
    rate: f64,
    share: f64,
    rounds: u32,
) -> Result<Finding> {
    let (world, sizes) = (&run.world, run.sizes);
    let handle = budgeted(world, sizes.budget)?;
    let mut in_many = Vec::new();
    for tenants in many {
        in_many.push(targets(&handle, tenants).await?);
    }
    let (hot, cold) = in_many.split_at(sizes.hot);
    let pick = |random: &mut rand::rngs::ThreadRng| {
        let side = if random.random_bool(share) { hot } else { cold };
        let database = &side[random.random_range(0..side.len())];
        Arc::clone(&database[random.random_range(0..database.len())])
    };
    // Connections are made before anything counts, as in a process that has served for a while.
    arrive(rate, sizes.round, pick).await?;
    let watch = Watch::start(world, many.len()).await?;
    let (mut ratios, mut one_ms, mut many_ms, mut failed) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for _ in 0..rounds {
        let one = arrive(rate, sizes.round, |random| {
            Arc::clone(&in_one[random.random_range(0..in_one.len())])
        })
        .await?;
        let many = arrive(rate, sizes.round, pick).await?;
        failed += one.failed + many.failed;
        ratios.push(many.p99_ms / one.p99_ms);
        one_ms.push(one.p99_ms);
        many_ms.push(many.p99_ms);
    }
    let most = watch.end();
    let kept = failed == 0 && most <= sizes.budget;
    let target = if share == HOT_SHARE {
        Target::AtMost(3.0)
    } else {
        Target::None
    };
    let mut finding = Finding::new(
        if share == HOT_SHARE { "skew" } else { "skew-other" },
        format!(
            "p99 of {} tenants in {} databases on a budget of {} connections, {:.1} % of calls to {} of them",
            sizes.tenants,
            sizes.databases,
            sizes.budget,
            share * 100.0,
            sizes.hot
        ),
        "the same arrivals in one database, at half of what it serves at most",
        Spread::of(ratios),
        target,
    )
    .detail(format!(
        "{:.1} ms against {:.1} ms; {rate:.0}/s; {failed} calls not served; at most {most} connections to them",
        Spread::of(many_ms).median,
        Spread::of(one_ms).median,
    ));
    finding.reached &= target == Target::None || kept;
    Ok(finding)
}

/// The tenants of the shared database, and those of each of the many.
async fn populate(run: &Run, progress: &dyn Fn(&str)) -> Result<(Vec<TenantId>, Vec<Vec<TenantId>>)> {
    let (world, sizes) = (&run.world, run.sizes);
    let shared = crowd::place(world, &world.shared[0].database).await?;
    let crowd = Crowd {
        name: "beside",
        tenants: i64::try_from(sizes.tenants)?,
        rows: 10 * i64::try_from(sizes.tenants)?,
        exponent: 1.0,
    };
    let one = crowd::settle(world, &shared, crowd).await?;
    let mut many = Vec::new();
    for (number, place) in databases(world, sizes.databases, progress).await?.iter().enumerate() {
        let name = format!("in{number}");
        let tenants =
            i64::try_from(sizes.tenants / sizes.databases + usize::from(number < sizes.tenants % sizes.databases))?;
        let crowd = Crowd {
            name: &name,
            tenants,
            rows: 10 * tenants,
            exponent: 1.0,
        };
        many.push(crowd::settle(world, place, crowd).await?);
    }
    Ok((one, many))
}

async fn databases(world: &World, databases: usize, progress: &dyn Fn(&str)) -> Result<Vec<Place>> {
    for number in 0..databases {
        if number % 50 == 0 {
            progress(&format!("skew: {number} of {databases} databases"));
        }
        create::make(world, Isolation::Database).await?;
    }
    let client = world.ops.catalog().client().await?;
    let sql =
        "select id, name from tenant_database where kind = 'own' and state = 'ready' order by created_at desc limit $1";
    let rows = client.query(sql, &[&i64::try_from(databases)?]).await?;
    ensure!(rows.len() == databases, "there are {} databases", rows.len());
    Ok(rows
        .iter()
        .map(|row| Place {
            id: row.get(0),
            database: row.get(1),
        })
        .collect())
}

/// Whom a call is for.
pub(super) struct Callee {
    scope: Scope,
    /// How many rows it finds.
    expects: usize,
}

pub(super) async fn targets(handle: &Tenantry, tenants: &[TenantId]) -> Result<Vec<Arc<Callee>>> {
    let mut targets = Vec::new();
    for tenant in tenants {
        let scope = handle.system_context(*tenant, "benchmark").await?;
        targets.push(Arc::new(Callee { scope, expects: 1 }));
    }
    Ok(targets)
}

impl Callee {
    async fn call(&self) -> Result<()> {
        let rows = self.scope.query(QUERY, &[]).await?;
        ensure!(rows.len() == self.expects, "{} rows", rows.len());
        Ok(())
    }
}

/// Calls per second where each of so many callers begins the next when the last has ended.
pub(super) async fn saturation(targets: &[Arc<Callee>], callers: usize, time: Duration) -> Result<f64> {
    let mut all = JoinSet::new();
    let begun = Instant::now();
    for number in 0..callers {
        let targets = targets.to_vec();
        all.spawn(async move {
            let mut calls = 0_u64;
            let mut next = number;
            while begun.elapsed() < time {
                targets[next % targets.len()].call().await?;
                next += callers;
                calls += 1;
            }
            anyhow::Ok(calls)
        });
    }
    let mut calls = 0;
    while let Some(done) = all.join_next().await {
        calls += done??;
    }
    Ok(calls as f64 / begun.elapsed().as_secs_f64())
}

pub(super) struct Arrived {
    pub(super) p99_ms: f64,
    pub(super) failed: usize,
}

/// Calls at random moments, so many a second.
pub(super) async fn arrive(
    rate: f64,
    time: Duration,
    pick: impl Fn(&mut rand::rngs::ThreadRng) -> Arc<Callee>,
) -> Result<Arrived> {
    let mut calls = JoinSet::new();
    let mut answered = Vec::new();
    let begun = Instant::now();
    let mut due = 0.0;
    while due < time.as_secs_f64() {
        let now = begun.elapsed().as_secs_f64();
        if due > now {
            tokio::time::sleep(Duration::from_secs_f64(due - now)).await;
            continue;
        }
        let callee = pick(&mut rand::rng());
        let arrived = begun + Duration::from_secs_f64(due);
        calls.spawn(async move {
            let served = callee.call().await;
            if let Err(error) = &served {
                tracing::debug!(error = format!("{error:#}"), "a call was not served");
            }
            (arrived.elapsed(), served.is_ok())
        });
        // Times between independent arrivals.
        due += -(1.0 - rand::rng().random::<f64>()).ln() / rate;
        while let Some(done) = calls.try_join_next() {
            answered.push(done?);
        }
    }
    while let Some(done) = calls.join_next().await {
        answered.push(done?);
    }
    answered.sort_unstable();
    let (p99, _) = answered.get(answered.len() * 99 / 100).context("nothing arrived")?;
    Ok(Arrived {
        p99_ms: p99.as_secs_f64() * 1e3,
        failed: answered.iter().filter(|(_, served)| !served).count(),
    })
}

/// Counts the connections to databases of one tenant each, again and again.
struct Watch {
    most: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Watch {
    async fn start(world: &World, databases: usize) -> Result<Self> {
        let client = world.ops.catalog().client().await?;
        // Not the world's own, which has a connection of another pool.
        let rows = client
            .query(
                "select app_role from tenant_database where kind = 'own' and state = 'ready' order by created_at desc limit $1",
                &[&i64::try_from(databases)?],
            )
            .await?;
        let roles: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        let mut admin = world.admin("postgres").await?;
        let most = Arc::new(AtomicUsize::new(0));
        let task = tokio::spawn({
            let most = Arc::clone(&most);
            async move {
                // PostgreSQL reads one session after the other, so that one look may hold a session that ended and the one that came
                // after it. Those that two looks in a row hold were all there between the two.
                while let (Some(first), Some(second)) =
                    (sessions(&mut admin, &roles).await, sessions(&mut admin, &roles).await)
                {
                    most.fetch_max(first.intersection(&second).count(), Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        });
        Ok(Self { most, task })
    }

    fn end(self) -> usize {
        self.task.abort();
        self.most.load(Ordering::Relaxed)
    }
}

/// The sessions of these roles by their processes, as far as PostgreSQL can be asked.
async fn sessions(admin: &mut Connection, roles: &[String]) -> Option<HashSet<i32>> {
    let sql = "select pid from pg_stat_activity where usename = any($1::text[])";
    let outcome = admin.query(sql, &[&roles]).await.ok()?;
    outcome.rows.iter().map(|row| row.get(0).ok()).collect()
}
