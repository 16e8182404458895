//! Some tenants that are written to, each on the move, and one fault that meets all of them.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicI32, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use futures_util::future::join_all;
use tenantry::{TenantId, Tenantry};
use tenantry_catalog::placement;
use tenantry_ops::{MoveStep, Operation, OperationState, Steer, SteerError};
use tenantry_testing::{TestFolder, test_folder};

use super::{
    look::Traces,
    matrix::{Batch, Course, Fault, Home, Level, Run, Server},
    mover::Mover,
    site::{Site, operator},
    strike::Lasting,
};
use crate::{
    ledger::{ACCOUNTS, Held, History, Session, Tally, Writer, check},
    rng::Rng,
};

/// How long a mover may take to come to its place; twice as long to one on the way back.
const ARRIVAL: Duration = Duration::from_secs(60);
/// How long a move may take to end, once everything is healed; twice as long there and back.
const END: Duration = Duration::from_secs(120);
/// How long a session may take to be served again after that.
const SERVED: Duration = Duration::from_secs(40);
/// Between two acts of a session, about.
const PAUSE: Duration = Duration::from_millis(12);

/// How a run ended.
pub(super) struct Ended {
    pub(super) run: Run,
    pub(super) fault: Fault,
    /// It went as was asked for: to its new home, or there and back; else it stayed in the old one.
    pub(super) moved: bool,
    pub(super) tally: Tally,
    /// What may not be.
    pub(super) findings: Vec<String>,
}

/// Whether rows are damaged before they are looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Damage {
    Yes,
    No,
}

/// Sessions of all tenants are numbered together.
fn session() -> Session {
    static NEXT: AtomicI32 = AtomicI32::new(1);
    Session(NEXT.fetch_add(1, Ordering::SeqCst))
}

/// A tenant with its sessions.
struct Member {
    run: Run,
    slug: String,
    tenant: TenantId,
    history: History,
    /// Of a process that hears of changes, and of one that may not.
    writers: Vec<Writer>,
    held: Vec<Held>,
}

/// Tenants that stay where they are: one in the shared tables of each server.
pub(super) struct Neighbours {
    application: Tenantry,
    all: Vec<(TenantId, History)>,
}

impl Neighbours {
    pub(super) async fn start(site: &Site) -> Result<Self> {
        let application = site.application(false).await?;
        let mut all = Vec::new();
        for server in Server::ALL {
            let home = Home {
                isolation: tenantry_core::Isolation::Shared,
                server,
            };
            let (tenant, _) = site
                .open(&application, &format!("neighbour-{}", server.name()), home)
                .await?;
            all.push((tenant, History::default()));
        }
        Ok(Self { application, all })
    }

    async fn write(&self, rng: &Rng) -> Result<Vec<Writer>> {
        let mut writers = Vec::new();
        for (tenant, history) in &self.all {
            let scope = self.application.system_context(*tenant, "a neighbour").await?;
            let pause = Duration::from_millis(60);
            writers.push(Writer::start(scope, history.clone(), session(), rng.clone(), pause));
        }
        Ok(writers)
    }
}

/// Runs a batch; every run of it is told of.
pub(super) async fn run(
    site: &Arc<Site>,
    neighbours: &Neighbours,
    batch: &Batch,
    damage: Damage,
) -> Result<Vec<Ended>> {
    let (hearing, deaf) = (site.application(false).await?, site.application(true).await?);
    let level = spawn_level(site, batch.level);
    let rng = Rng::of(batch.seed, &[6]);
    let around = neighbours.write(&rng).await?;
    let members = join_all(batch.runs.iter().enumerate().map(|(position, run)| {
        let applications = (&hearing, &deaf);
        let rng = Rng::of(batch.seed, &[7, position as u64]);
        Member::start(site, applications, batch, position, run, rng)
    }));
    let mut members = members.await.into_iter().collect::<Result<Vec<_>>>()?;
    // Everybody has begun, and the deaf one knows where everything is.
    for member in &members {
        served(&member.writers, 2, SERVED)
            .await
            .context("before anything moves")?;
    }
    batch.prepare(site);
    for member in &mut members {
        member.hold_on(site, batch).await?;
    }

    let runner = move_all(site, batch, &members).await?;
    let mut endings = Vec::new();
    let mut wrong: Vec<Vec<String>> = Vec::new();
    for member in &members {
        let mut findings = Vec::new();
        match ended(site, member.tenant, member.run.course).await {
            Ok(operation) => endings.push(went(&operation, member.run.course)),
            Err(error) => {
                findings.push(format!("{error:#}"));
                endings.push(false);
            }
        }
        wrong.push(findings);
    }
    if batch.fault == Fault::Stale {
        // It has its chance to do harm now that the old home is gone.
        tokio::time::sleep(Duration::from_millis(700)).await;
    }
    site.heal();
    for (member, findings) in members.iter().zip(&mut wrong) {
        if let Err(error) = served(&member.writers, 2, SERVED).await {
            findings.push(format!("{error:#}"));
        }
    }
    let mut told = Vec::new();
    for member in members {
        told.push(member.stop().await);
    }
    for writer in around {
        writer.stop().await;
    }
    runner.abort();
    level.abort();
    hearing.close().await;
    deaf.close().await;

    if damage == Damage::Yes {
        for (position, (_, tenant, _)) in told.iter().enumerate() {
            site.damage(*tenant, position).await?;
        }
    }
    let traces = settled_traces(site).await?;
    if !traces.left_over.is_empty() {
        // It is not known whose.
        wrong[0].push(format!("left over: {}", traces.left_over.join(", ")));
    }
    for (tenant, history) in &neighbours.all {
        for finding in findings_of(site, &traces, *tenant, history).await? {
            wrong[0].push(format!("neighbour: {finding}"));
        }
    }
    let mut all = Vec::new();
    for (((run, tenant, history), mut findings), moved) in told.into_iter().zip(wrong).zip(endings) {
        findings.extend(findings_of(site, &traces, tenant, &history).await?);
        let home = site.home(tenant).await?;
        let expected = match (run.course, moved) {
            (Course::There, true) => run.to,
            _ => run.from,
        };
        if home != expected {
            findings.push(format!("it lives in {home}, and its move has ended otherwise"));
        }
        let tally = history.tally();
        findings.extend(tally.unexpected.iter().map(|what| format!("unexpected: {what}")));
        all.push(Ended {
            run,
            fault: batch.fault,
            moved,
            tally,
            findings,
        });
    }
    Ok(all)
}

/// Starts every mover, waits until all are at their places, and strikes. Gives the task that works on operations from then on.
async fn move_all(site: &Arc<Site>, batch: &Batch, members: &[Member]) -> Result<Runner> {
    let folder = test_folder();
    let gate: PathBuf = folder.path().join("gate");
    let patience = batch
        .runs
        .iter()
        .map(|run| longer(ARRIVAL, run.course))
        .max()
        .unwrap_or(ARRIVAL);
    let mut movers = Vec::new();
    for member in members {
        movers.push(Mover::start(&site.catalog_url(), &member.slug, &member.run, &gate)?);
    }
    for mover in &mut movers {
        mover.arrives(patience).await?;
    }
    let mut task = None;
    let start = || {
        let ops = site.ops.clone();
        task = Some(tokio::spawn(async move { ops.run_operations().await }));
    };
    let lasting = batch.strike(site, &mut movers, &gate, start).await?;
    if lasting == Lasting::No {
        site.heal();
    }
    Ok(Runner {
        task: task.context("every fault starts a runner")?,
        _movers: movers,
        _folder: folder,
    })
}

/// Whoever works on the moves.
struct Runner {
    task: tokio::task::JoinHandle<()>,
    _movers: Vec<Mover>,
    _folder: TestFolder,
}

impl Runner {
    fn abort(self) {
        self.task.abort();
    }
}

/// Keeps setting the level, since databases come with roles of their own.
fn spawn_level(site: &Arc<Site>, level: Level) -> tokio::task::JoinHandle<()> {
    let site = site.clone();
    tokio::spawn(async move {
        loop {
            // A server may be away.
            let _ = site.set_level(level.name()).await;
            tokio::time::sleep(Duration::from_millis(150)).await;
        }
    })
}

impl Member {
    async fn start(
        site: &Site,
        applications: (&Tenantry, &Tenantry),
        batch: &Batch,
        position: usize,
        run: &Run,
        rng: Rng,
    ) -> Result<Self> {
        // Numbers would look like one another; letters do not.
        let letter = ["a", "b", "c", "d", "e", "f", "g", "h"][position % 8];
        let slug = format!("run-{}-{letter}", batch.number);
        let (tenant, scope) = site.open(applications.0, &slug, run.from).await?;
        let history = History::default();
        let deaf = applications.1.system_context(tenant, "a run").await?;
        let mut writers = Vec::new();
        for (number, scope) in [scope.clone(), scope, deaf].into_iter().enumerate() {
            let rng = Rng::of(rng.clone().next(), &[number as u64]);
            writers.push(Writer::start(scope, history.clone(), session(), rng, PAUSE));
        }
        Ok(Self {
            run: run.clone(),
            slug,
            tenant,
            history,
            writers,
            held: Vec::new(),
        })
    }

    /// Sessions that will know the placement of now for ever.
    async fn hold_on(&mut self, site: &Site, batch: &Batch) -> Result<()> {
        let catalog = site.ops.catalog();
        let client = catalog.client().await?;
        let located = placement::locate(catalog, &client, self.tenant)
            .await?
            .context("it has a home")?;
        drop(client);
        let levels = match batch.fault {
            Fault::Stale => Level::ALL.to_vec(),
            _ => vec![batch.level],
        };
        for level in levels {
            let held = Held::start(located.clone(), self.history.clone(), session(), level.name());
            self.held.push(held);
        }
        let began = Instant::now();
        while self.held.iter().any(|held| held.written() == 0) {
            ensure!(began.elapsed() < SERVED, "a session that holds on was never let in");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    async fn stop(self) -> (Run, TenantId, History) {
        for held in self.held {
            held.stop().await;
        }
        join_all(self.writers.into_iter().map(Writer::stop)).await;
        (self.run, self.tenant, self.history)
    }
}

/// Waits until each of the sessions has had so many more writes acknowledged.
async fn served(writers: &[Writer], more: u64, patience: Duration) -> Result<()> {
    let before: Vec<u64> = writers.iter().map(Writer::written).collect();
    let began = Instant::now();
    while writers
        .iter()
        .zip(&before)
        .any(|(writer, before)| writer.written() < before + more)
    {
        ensure!(
            began.elapsed() < patience,
            "not served: no write was acknowledged for {} s",
            patience.as_secs()
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

/// A way back comes after a way there.
fn longer(patience: Duration, course: Course) -> Duration {
    match course {
        Course::There => patience,
        Course::Back => patience * 2,
    }
}

/// Whether a move that has ended went as was asked for.
fn went(operation: &Operation, course: Course) -> bool {
    match course {
        Course::There => operation.state == OperationState::Done,
        Course::Back => operation.error_code.as_deref() == Some("rolled_back"),
    }
}

/// Waits until the tenant's move has ended. Where it is to be taken back and soaks, it is: the mover may have died before it said so.
async fn ended(site: &Site, tenant: TenantId, course: Course) -> Result<Operation> {
    let began = Instant::now();
    let patience = longer(END, course);
    loop {
        let found = site.ops.list_operations(&operator(), Some(tenant), None, 1).await;
        // The catalog may be away.
        let last = found.ok().and_then(|mut all| all.pop());
        if let Some(operation) = &last
            && operation.kind == tenantry_ops::OperationKind::Move
            && operation.state.is_final()
        {
            return Ok(operation.clone());
        }
        if let Some(operation) = &last
            && course == Course::Back
            && operation.step == MoveStep::Soak.as_str()
            && operation.wish.is_none()
        {
            let steered = site.ops.steer_move(&operator(), operation.id, Steer::Rollback).await;
            // What else is refused is tried again: it is the mover's wish already, or the catalog is away.
            if let Err(error @ SteerError::NoWayBack { .. }) = steered {
                bail!("{error}");
            }
        }
        ensure!(
            began.elapsed() < patience,
            "the move has not ended within {} s: {last:?}",
            patience.as_secs()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What is there when whoever was overtaken has had the time to notice.
async fn settled_traces(site: &Site) -> Result<Traces> {
    let began = Instant::now();
    loop {
        let traces = site.traces().await;
        let is_settled = traces.as_ref().is_ok_and(|traces| traces.left_over.is_empty());
        if is_settled || began.elapsed() > Duration::from_secs(10) {
            return traces;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Where it lives, and whether its history and its rows can both be true.
async fn findings_of(site: &Site, traces: &Traces, tenant: TenantId, history: &History) -> Result<Vec<String>> {
    let mut findings = traces.of(tenant);
    let last = site.see(tenant).await?;
    let events = history.events();
    let found = check(&events, &last, &ACCOUNTS);
    findings.extend(found.iter().map(|finding| format!("{finding:?}")));
    Ok(findings)
}
