//! A worker finds a database by itself: what one tenant there may have, and what becomes of it, is nothing to the jobs of the others.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tenantry::{
    Entrance, Home, LocateError, PlacementSource, PlanLimits, PoolConfig, Served, Tenantry,
    jobs::{Enqueue, Failure, JobState, Run},
};
use tenantry_core::{TenantDatabaseId, TenantId};
use tokio::sync::oneshot;

use super::{ALL, Add, Odd, add, by_jobs, jobs_left, work, worker};
use crate::world::{Source, World};

/// Says where tenants live as the world does, but for what has become of one.
struct Found {
    world: Arc<Source>,
    database: TenantDatabaseId,
    /// What became of a tenant.
    became: Mutex<Option<(TenantId, Result<Home, LocateError>)>>,
    /// The database is gone.
    is_gone: AtomicBool,
}

impl Found {
    /// A worker is sent to this tenant's database only.
    fn at(world: &World, tenant: TenantId) -> Arc<Self> {
        Arc::new(Self {
            world: world.source.clone(),
            database: world.source.homes.lock()[&tenant].placement.database,
            became: Mutex::new(None),
            is_gone: AtomicBool::new(false),
        })
    }
}

#[async_trait]
impl PlacementSource for Found {
    async fn locate(&self, tenant: TenantId) -> Result<Home, LocateError> {
        let became = self.became.lock().clone();
        match became {
            Some((id, became)) if id == tenant => became,
            _ => self.world.locate(tenant).await,
        }
    }

    async fn locate_served(&self, tenant: TenantId) -> Result<Served, LocateError> {
        let served = Served::from(self.locate(tenant).await?);
        let limits = self.world.limits.lock().clone();
        Ok(Served { limits, ..served })
    }

    async fn served_databases(&self) -> Result<Vec<TenantDatabaseId>, LocateError> {
        Ok(vec![self.database])
    }

    async fn entrance(&self, database: TenantDatabaseId) -> Result<Entrance, LocateError> {
        match self.is_gone.load(Ordering::SeqCst) {
            true => Err(LocateError::NotFound),
            false => self.world.entrance(database).await,
        }
    }
}

type Outcome = BoxFuture<'static, Result<(), Failure>>;

/// A handler that waits the first time until it is told to end; how often it was begun is counted.
fn waits(begun: Arc<AtomicUsize>) -> (oneshot::Sender<()>, impl Fn(Run, Odd) -> Outcome + Send + Sync) {
    let (end, ends) = oneshot::channel::<()>();
    let gate = Mutex::new(Some(ends));
    let handler = move |_: Run, _: Odd| -> Outcome {
        begun.fetch_add(1, Ordering::SeqCst);
        let ends = gate.lock().take();
        Box::pin(async move {
            if let Some(ends) = ends {
                let _ = ends.await;
            }
            Ok(())
        })
    };
    (end, handler)
}

async fn until(holds: impl AsyncFn() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < Duration::from_secs(20), "it does not come to that");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn what_a_tenants_plan_gives_is_no_bound_to_a_worker() {
    let world = World::new().await;
    *world.source.limits.lock() = PlanLimits {
        concurrent: 1.try_into().ok(),
        ..PlanLimits::default()
    };
    let source = Found::at(&world, world.tenants[1]);
    let tenantry = Tenantry::from_source(source, world.audit.clone(), PoolConfig::default());
    let busy = tenantry.system_context(world.tenants[1], "test").await.unwrap();
    let other = tenantry.system_context(world.tenants[0], "test").await.unwrap();
    // All that it may have at a time.
    let mut held = busy.begin().await.unwrap();
    held.query("select 1", &[]).await.unwrap();
    other.enqueue(&Add { id: 100 }).await.unwrap();
    let report = work(worker(&tenantry).handle(add), async || by_jobs(&other).await == 1).await;
    assert_eq!((report.done, report.failed), (1, 0), "{report:?}");
    held.rollback().await.unwrap();
}

/// A lease is kept where the job is, and its end is told there.
#[tokio::test]
async fn a_job_of_another_goes_on_when_a_tenant_is_suspended_or_moves() {
    let world = World::new().await;
    let (that, other) = (world.tenants[1], world.tenants[0]);
    let elsewhere = {
        let mut home = world.source.homes.lock()[&world.tenants[4]].clone();
        home.placement.tenant = that;
        home
    };
    for became in [Err(LocateError::Suspended), Ok(elsewhere)] {
        let source = Found::at(&world, that);
        let tenantry = Tenantry::from_source(source.clone(), world.audit.clone(), PoolConfig::default());
        let scope = tenantry.system_context(other, "test").await.unwrap();
        let begun = Arc::new(AtomicUsize::new(0));
        let (end, handler) = waits(begun.clone());
        scope.enqueue(&Odd { how: String::new() }).await.unwrap();
        let lease = Duration::from_secs(4);
        let (stop, stopped) = oneshot::channel::<()>();
        let one = worker(&tenantry).lease(lease).handle::<Odd, _, _>(handler);
        let running = tokio::spawn(one.run(async {
            let _ = stopped.await;
        }));
        until(async || begun.load(Ordering::SeqCst) == 1).await;
        *source.became.lock() = Some((that, became));
        tenantry.forget_placement(that).await;
        // Longer than a lease that nobody keeps.
        tokio::time::sleep(2 * lease).await;
        end.send(()).expect("the handler is there still");
        until(async || jobs_left(&scope, &ALL).await == 0).await;
        stop.send(()).unwrap();
        let report = running.await.unwrap();
        assert_eq!((report.done, report.failed, report.lost), (1, 0, 0), "{report:?}");
        assert_eq!(begun.load(Ordering::SeqCst), 1, "it is tried once");
    }
}

/// Nobody else lives there by whom the database could be found.
#[tokio::test]
async fn a_job_of_a_tenant_with_a_database_of_its_own_is_given_back_when_it_is_suspended() {
    let world = World::new().await;
    let that = world.tenants[4];
    let source = Found::at(&world, that);
    let tenantry = Tenantry::from_source(source.clone(), world.audit.clone(), PoolConfig::default());
    let scope = world.scope(4).await;
    let once = Enqueue::new().attempts_max(1);
    scope.enqueue_with(&Odd { how: String::new() }, once).await.unwrap();
    let begun = Arc::new(AtomicUsize::new(0));
    let (end, handler) = waits(begun.clone());
    let (stop, stopped) = oneshot::channel::<()>();
    let one = worker(&tenantry).handle::<Odd, _, _>(handler);
    let running = tokio::spawn(one.run(async {
        let _ = stopped.await;
    }));
    until(async || begun.load(Ordering::SeqCst) == 1).await;
    *source.became.lock() = Some((that, Err(LocateError::Suspended)));
    tenantry.forget_placement(that).await;
    end.send(()).expect("the handler is there still");
    until(async || jobs_left(&scope, &[JobState::Running]).await == 0).await;
    stop.send(()).unwrap();
    let report = running.await.unwrap();
    assert_eq!(report.lost, 0, "{report:?}");
    assert!(report.given_back >= 1, "{report:?}");
    let waiting = scope
        .jobs(&[JobState::Waiting, JobState::Later], None, 10)
        .await
        .unwrap();
    assert_eq!(waiting.len(), 1, "it is no dead letter");
    assert_eq!(waiting[0].attempt, 0, "the attempt does not count");
}

/// Its jobs went with it: who goes on here would do what is done elsewhere.
#[tokio::test]
async fn a_job_is_stopped_when_its_database_is_gone() {
    let world = World::new().await;
    let that = world.tenants[4];
    let source = Found::at(&world, that);
    let tenantry = Tenantry::from_source(source.clone(), world.audit.clone(), PoolConfig::default());
    let scope = tenantry.system_context(that, "test").await.unwrap();
    scope.enqueue(&Odd { how: String::new() }).await.unwrap();
    let begun = Arc::new(AtomicUsize::new(0));
    let (end, handler) = waits(begun.clone());
    let (stop, stopped) = oneshot::channel::<()>();
    let one = worker(&tenantry).handle::<Odd, _, _>(handler);
    let running = tokio::spawn(one.run(async {
        let _ = stopped.await;
    }));
    until(async || begun.load(Ordering::SeqCst) == 1).await;
    source.is_gone.store(true, Ordering::SeqCst);
    tenantry.forget_placements();
    until(async || end.is_closed()).await;
    stop.send(()).unwrap();
    let report = running.await.unwrap();
    assert_eq!((report.done, report.lost), (0, 1), "{report:?}");
}
