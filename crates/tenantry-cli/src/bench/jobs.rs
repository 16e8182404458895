//! Jobs: how many one worker process does in a second, beside Graphile Worker on the same database, and what they cost others.
//!
//! Graphile Worker comes from npm into a temporary folder. Where npm can't be reached or there is no Node.js, its side is left out,
//! and the table says so.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tenantry::{
    Error, Scope, Tenantry,
    jobs::{Failure, Job, JobState, Run as Attempt, Worker},
};
use tokio::sync::{Notify, oneshot};

use super::{
    folder::Folder,
    measure::{Caller, Crowd, Spread, compare},
    report::{Finding, Target},
    run::Run,
    world::{CROWD, World},
};

/// The version that is compared with: the newest that runs on every supported Node.js.
const GRAPHILE: &str = "graphile-worker@0.17.3";
const WAYS: [&str; 2] = ["default", "batched"];
const ROUNDS_MAX: u32 = 5;
/// How long a job takes where another tenant waits for it.
const JOB: Duration = Duration::from_millis(10);

/// How many there are of everything.
struct Sizes {
    /// Jobs of a round.
    jobs: usize,
    /// Jobs of the tenant that has very many.
    waiting: usize,
    /// First jobs of another tenant.
    firsts: usize,
}

/// Every line about jobs.
pub(super) async fn all(run: &Run, small: bool, progress: &dyn Fn(&str)) -> Result<Vec<Finding>> {
    let sizes = match small {
        true => Sizes {
            jobs: 200,
            waiting: 2_000,
            firsts: 5,
        },
        false => Sizes {
            jobs: 6_000,
            waiting: 100_000,
            firsts: 40,
        },
    };
    let rate = rate(run, &sizes, progress).await?;
    progress("jobs: enqueueing in a transaction");
    let enqueue = enqueue(run).await?;
    progress("jobs: another tenant's first");
    let first = first(run, &sizes).await?;
    Ok(vec![rate, enqueue, first])
}

/// Writes a contact.
#[derive(Serialize, Deserialize)]
struct Write {
    email: String,
}

impl Job for Write {
    const KIND: &'static str = "bench write";
}

/// Counts jobs down, and knows when the first began and the last ended.
struct Count {
    left: AtomicUsize,
    first: Mutex<Option<Instant>>,
    last: Mutex<Option<Instant>>,
    over: Notify,
}

impl Count {
    fn of(jobs: usize) -> Arc<Self> {
        Arc::new(Self {
            left: AtomicUsize::new(jobs),
            first: Mutex::default(),
            last: Mutex::default(),
            over: Notify::new(),
        })
    }

    fn begins(&self) {
        self.first.lock().get_or_insert_with(Instant::now);
    }

    fn ends(&self) {
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            *self.last.lock() = Some(Instant::now());
            self.over.notify_one();
        }
    }

    fn took(&self) -> Result<Duration> {
        let (first, last) = (*self.first.lock(), *self.last.lock());
        Ok(last.context("no job ended")? - first.context("no job began")?)
    }
}

async fn rate(run: &Run, sizes: &Sizes, progress: &dyn Fn(&str)) -> Result<Finding> {
    let world = &run.world;
    // As many connections as Graphile Worker is given: with each job's own, one for fetching others.
    let tenantry = world.handle(CROWD + 1)?;
    let mut scopes = Vec::new();
    for home in &world.shared {
        scopes.push(tenantry.system_context(home.id, "benchmark").await?);
    }
    progress("jobs: fetching Graphile Worker");
    let mut peer = match Graphile::start(world).await {
        Ok(peer) => Some(peer),
        Err(reason) => {
            eprintln!("\n*** NOT COMPARED: there is no Graphile Worker on this machine: {reason:#} ***\n");
            None
        }
    };
    let tenants: Vec<String> = world.shared.iter().map(|home| home.id.to_string()).collect();
    let rounds = run.plan.rounds.clamp(1, ROUNDS_MAX);
    let (mut ours, mut theirs) = (Vec::new(), [Vec::new(), Vec::new()]);
    // One more than counts, in which connections and plans are made.
    for round in 0..=rounds {
        progress(&format!("jobs: round {round}"));
        if let Some(peer) = &mut peer {
            for (way, rates) in WAYS.iter().zip(&mut theirs) {
                let mark = format!("{way}-{round}-");
                peer.order(&json!({ "do": "fill", "tenants": tenants, "count": sizes.jobs, "mark": mark }))?;
                let order = json!({ "do": "work", "way": way, "count": sizes.jobs, "concurrency": CROWD });
                let seconds = peer.order(&order)?.seconds;
                rates.push(sizes.jobs as f64 / seconds);
            }
        }
        fill(&scopes, sizes.jobs, round).await?;
        let took = work(&tenantry, sizes.jobs).await?;
        ours.push(sizes.jobs as f64 / took.as_secs_f64());
        for scope in &scopes {
            let left = scope
                .jobs(&[JobState::Waiting, JobState::Running, JobState::Dead], None, 1)
                .await?;
            ensure!(left.is_empty(), "a job is left: {left:?}");
        }
    }
    ours.remove(0);
    let what = format!(
        "jobs by one worker process, {CROWD} at a time, a write each, {} tenants",
        world.shared.len()
    );
    let our_rate = Spread::of(ours.iter().copied()).median;
    if peer.is_none() {
        return Ok(Finding::new(
            "jobs",
            what,
            "nothing: npm or Node.js is missing",
            Spread::of(ours),
            Target::None,
        )
        .unit("/s")
        .detail("NOT COMPARED with Graphile Worker, which could not be fetched"));
    }
    let theirs = theirs.map(|mut rates| {
        rates.remove(0);
        rates
    });
    let medians = theirs.each_ref().map(|rates| Spread::of(rates.iter().copied()).median);
    let best = usize::from(medians[1] > medians[0]);
    let ratios = ours.iter().zip(&theirs[best]).map(|(ours, theirs)| ours / theirs);
    Ok(Finding::new(
        "jobs",
        what,
        "Graphile Worker from npm, on the same database, its faster way",
        Spread::of(ratios),
        Target::AtLeast(1.5),
    )
    .detail(format!(
        "{our_rate:.0}/s against {:.0}/s (one by one) and {:.0}/s (fetched and completed in batches)",
        medians[0], medians[1]
    )))
}

async fn fill(scopes: &[Scope], jobs: usize, round: u32) -> Result<()> {
    for (n, scope) in scopes.iter().enumerate() {
        let mine = (n..jobs).step_by(scopes.len());
        scope
            .transaction::<_, Error, _>(async |tx| {
                for job in mine {
                    let email = format!("ours-{round}-{job}");
                    tx.enqueue(&Write { email }).await?;
                }
                Ok(())
            })
            .await?;
    }
    Ok(())
}

/// From the beginning of the first job to the end of the last.
async fn work(tenantry: &Tenantry, jobs: usize) -> Result<Duration> {
    let count = Count::of(jobs);
    let handler = {
        let count = count.clone();
        move |attempt: Attempt, job: Write| {
            let count = count.clone();
            async move {
                count.begins();
                let sql = "insert into contacts (name, email) values ('by a job', $1)";
                attempt.execute(sql, &[&job.email]).await?;
                count.ends();
                Ok::<(), Failure>(())
            }
        }
    };
    let (stop, stopped) = oneshot::channel::<()>();
    let worker = Worker::new(tenantry).concurrency(CROWD).handle(handler);
    let running = tokio::spawn(worker.run(async {
        let _ = stopped.await;
    }));
    count.over.notified().await;
    let _ = stop.send(());
    let report = running.await?;
    ensure!(report.done == jobs as u64 && report.failed == 0, "{report:?}");
    count.took()
}

/// A transaction with one write, and the same with a job.
struct Writer {
    scope: Scope,
    enqueues: bool,
}

impl Caller for Writer {
    async fn call(&mut self) -> Result<()> {
        let enqueues = self.enqueues;
        self.scope
            .transaction::<_, Error, _>(async |tx| {
                tx.execute(
                    "update contacts set notes = 'seen' where email = 'person-1@example.com'",
                    &[],
                )
                .await?;
                if enqueues {
                    let email = "later".to_owned();
                    tx.enqueue(&Write { email }).await?;
                }
                Ok(())
            })
            .await?;
        Ok(())
    }
}

async fn enqueue(run: &Run) -> Result<Finding> {
    let handle = run.world.handle(2)?;
    let mut side = Vec::new();
    for enqueues in [false, true] {
        let scope = handle.system_context(run.world.shared[0].id, "benchmark").await?;
        side.push(Crowd::new(vec![Writer { scope, enqueues }]));
    }
    let (Some(mut with), Some(mut without)) = (side.pop(), side.pop()) else {
        bail!("two sides were made");
    };
    let found = compare(&run.meter, run.plan, &mut without, &mut with).await?;
    clear(&run.world).await?;
    Ok(Finding::rates(
        "jobs-enqueue",
        "a transaction with one write that enqueues a job",
        "the same without the job",
        &found,
        Target::None,
    ))
}

/// Takes a while.
#[derive(Serialize, Deserialize)]
struct Slow {
    asked: bool,
}

impl Job for Slow {
    const KIND: &'static str = "bench slow";
}

/// How long another tenant's job waits until it begins, alone and while one tenant has very many waiting.
async fn first(run: &Run, sizes: &Sizes) -> Result<Finding> {
    let tenantry = run.world.handle(CROWD)?;
    let busy = tenantry.system_context(run.world.shared[0].id, "benchmark").await?;
    let quiet = tenantry.system_context(run.world.shared[1].id, "benchmark").await?;
    let begun: Arc<Mutex<Option<Instant>>> = Arc::default();
    let began = Arc::new(Notify::new());
    let (seen, told) = (begun.clone(), began.clone());
    let handler = move |_: Attempt, job: Slow| {
        let (seen, told) = (seen.clone(), told.clone());
        async move {
            if job.asked {
                *seen.lock() = Some(Instant::now());
                told.notify_one();
            }
            tokio::time::sleep(JOB).await;
            Ok::<(), Failure>(())
        }
    };
    let (stop, stopped) = oneshot::channel::<()>();
    let worker = Worker::new(&tenantry).concurrency(4).handle(handler);
    let running = tokio::spawn(worker.run(async {
        let _ = stopped.await;
    }));
    let wait = async || -> Result<f64> {
        quiet.enqueue(&Slow { asked: true }).await?;
        let asked = Instant::now();
        began.notified().await;
        let begun = begun.lock().take().context("it began")?;
        Ok(begun.saturating_duration_since(asked).as_secs_f64() * 1e3)
    };
    let mut alone = Vec::new();
    for _ in 0..sizes.firsts {
        alone.push(wait().await?);
        tokio::time::sleep(JOB * 3).await;
    }
    busy.transaction::<_, Error, _>(async |tx| {
        for _ in 0..sizes.waiting {
            tx.enqueue(&Slow { asked: false }).await?;
        }
        Ok(())
    })
    .await?;
    tokio::time::sleep(JOB * 5).await;
    let mut beside = Vec::new();
    for _ in 0..sizes.firsts {
        beside.push(wait().await?);
        tokio::time::sleep(JOB * 3).await;
    }
    let left = busy.jobs(&[JobState::Waiting], None, 1).await?;
    ensure!(!left.is_empty(), "nothing was waiting any more");
    let _ = stop.send(());
    running.await?;
    clear(&run.world).await?;
    let (alone, beside) = (Spread::of(alone), Spread::of(beside));
    let job = JOB.as_secs_f64() * 1e3;
    let later = |beside: f64| (beside - alone.median) / job;
    let figure = Spread {
        min: later(beside.min),
        median: later(beside.median),
        max: later(beside.max),
    };
    Ok(Finding::new(
        "jobs-first",
        format!(
            "how much later another tenant's first job begins while one has {} waiting, in times of a job of {job:.0} ms",
            sizes.waiting
        ),
        "the same job while nobody has any",
        figure,
        Target::AtMost(1.0),
    )
    .detail(format!(
        "{:.2} ms ({:.2} to {:.2}) against {:.2} ms ({:.2} to {:.2})",
        beside.median, beside.min, beside.max, alone.median, alone.min, alone.max
    )))
}

/// Takes out what is left.
async fn clear(world: &World) -> Result<()> {
    let mut admin = world.admin(&world.shared[0].database).await?;
    Ok(admin.batch("truncate tenantry_private.job").await?)
}

/// A Node.js with Graphile Worker that waits for orders; killed and cleared away when this is dropped.
struct Graphile {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
    /// Of the process: after it.
    _folder: Folder,
}

#[derive(Deserialize)]
struct Answered {
    seconds: f64,
}

impl Graphile {
    async fn start(world: &World) -> Result<Self> {
        let folder = Folder::make("tenantry-graphile")?;
        let there = folder.path().to_owned();
        tokio::task::spawn_blocking(move || install(&there)).await??;
        fs::write(folder.path().join("graphile.js"), include_str!("jobs/graphile.js"))?;
        let mut child = Command::new("node")
            .arg(folder.path().join("graphile.js"))
            .current_dir(folder.path())
            .env("JOBS_DATABASE", world.cluster.admin_url(&world.shared[0].database))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("`node` does not run")?;
        let (Some(orders), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("the peer has no pipes");
        };
        let mut peer = Self {
            child,
            orders,
            answers: BufReader::new(answers),
            _folder: folder,
        };
        peer.order(&json!({ "do": "prepare" }))?;
        Ok(peer)
    }

    fn order(&mut self, order: &Value) -> Result<Answered> {
        writeln!(self.orders, "{order}")?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        serde_json::from_str(&line).with_context(|| format!("Graphile Worker failed at {}: see above", order["do"]))
    }
}

impl Drop for Graphile {
    fn drop(&mut self) {
        // It ends by itself when its orders end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Through the ordinary client, once it has answered at all.
fn install(folder: &std::path::Path) -> Result<()> {
    npm(&["ping"], folder)?;
    let prefix = folder.to_string_lossy();
    npm(
        &[
            "install",
            "--no-audit",
            "--no-fund",
            "--ignore-scripts",
            "--no-save",
            "--prefix",
            &prefix,
            GRAPHILE,
        ],
        folder,
    )
}

fn npm(arguments: &[&str], folder: &std::path::Path) -> Result<()> {
    let output = Command::new("npm")
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .context("`npm` does not run")?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.trim().lines().last().unwrap_or_default();
    Err(anyhow!("`npm {}` failed: {said}", arguments[0]))
}
