//! A worker finds a database by one of its tenants: what becomes of the others' jobs when that one has left it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use parking_lot::Mutex;
use tenantry::{
    Home, LocateError, PlacementSource, PoolConfig, Scope, Served, Tenantry,
    jobs::{Failure, JobState, Run, WorkerReport},
};
use tenantry_core::{TenantDatabaseId, TenantId};
use tokio::{sync::oneshot, task::JoinHandle};

use super::{ALL, Add, Odd, add, by_jobs, jobs_left, worker};
use crate::world::{Source, World};

/// Names one database, by a tenant that need not live there any more.
struct Names {
    homes: Arc<Source>,
    named: Mutex<(TenantDatabaseId, TenantId)>,
}

#[async_trait]
impl PlacementSource for Names {
    async fn locate(&self, tenant: TenantId) -> Result<Home, LocateError> {
        self.homes.locate(tenant).await
    }

    async fn locate_served(&self, tenant: TenantId) -> Result<Served, LocateError> {
        self.homes.locate_served(tenant).await
    }

    async fn one_tenant_of_each(&self) -> Result<Vec<(TenantDatabaseId, TenantId)>, LocateError> {
        Ok(vec![*self.named.lock()])
    }
}

/// A job of the second tenant that runs until its end is said, by a worker that finds its database by the first.
struct Held {
    world: World,
    tenantry: Tenantry,
    scope: Scope,
    end: Option<oneshot::Sender<Result<(), Failure>>>,
    stop: oneshot::Sender<()>,
    running: JoinHandle<WorkerReport>,
}

/// A process that finds the database of shared tables by its first tenant.
fn by_the_first(world: &World) -> (Arc<Names>, Tenantry) {
    let names = Arc::new(Names {
        homes: world.source.clone(),
        named: Mutex::new((world.databases[0].id, world.tenants[0])),
    });
    let tenantry = Tenantry::from_source(names.clone(), world.audit.clone(), PoolConfig::default());
    (names, tenantry)
}

/// The first tenant lives in a database of its own from here on.
fn the_first_leaves(world: &World, tenantry: &Tenantry) {
    {
        let mut homes = world.source.homes.lock();
        let mut home = homes[&world.tenants[4]].clone();
        home.placement.tenant = world.tenants[0];
        homes.insert(world.tenants[0], home);
    }
    tenantry.forget_placements();
}

impl Held {
    async fn begin() -> Self {
        let world = World::new().await;
        let (_, tenantry) = by_the_first(&world);
        let scope = world.scope(1).await;
        scope.enqueue(&Odd { how: String::new() }).await.unwrap();
        let (runs, begun) = oneshot::channel::<()>();
        let (end, ends) = oneshot::channel::<Result<(), Failure>>();
        let gate = Mutex::new(Some((runs, ends)));
        let handler = move |_: Run, _: Odd| {
            let gate = gate.lock().take();
            async move {
                let (runs, ends) = gate.expect("the job is tried once");
                runs.send(()).unwrap();
                ends.await.unwrap()
            }
        };
        let (stop, stopped) = oneshot::channel::<()>();
        // A busy machine must not lose the job to a later claim.
        let one = worker(&tenantry).lease(Duration::from_secs(6)).handle(handler);
        let running = tokio::spawn(one.run(async {
            let _ = stopped.await;
        }));
        begun.await.unwrap();
        Self {
            world,
            tenantry,
            scope,
            end: Some(end),
            stop,
            running,
        }
    }

    fn ends(&mut self, outcome: Result<(), Failure>) {
        self.end.take().unwrap().send(outcome).unwrap();
    }

    /// Until when the job is the worker's, by the database's clock.
    async fn leased_until(&self) -> f64 {
        let sql = "select extract(epoch from leased_until)::float8 from tenantry_private.job where state = 1";
        let admin = &self.world.databases[0].admin;
        admin.query_one(sql, &[]).await.unwrap().get(0)
    }

    async fn stops(self) -> WorkerReport {
        self.stop.send(()).unwrap();
        self.running.await.unwrap()
    }
}

async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    within(Duration::from_secs(30), what, holds).await;
}

async fn within(limit: Duration, what: &str, holds: impl AsyncFn() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < limit, "{what}: not in time");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn leases_are_kept_when_the_tenant_by_which_their_database_was_found_has_left() {
    let mut held = Held::begin().await;
    let first = held.leased_until().await;
    the_first_leaves(&held.world, &held.tenantry);
    // Of the beats two seconds apart one may have been under way.
    until("the lease is kept", async || held.leased_until().await > first + 3.0).await;
    held.ends(Ok(()));
    until("the job is done", async || jobs_left(&held.scope, &ALL).await == 0).await;
    let report = held.stops().await;
    assert_eq!((report.done, report.lost), (1, 0), "{report:?}");
}

#[tokio::test]
async fn a_failure_is_told_where_its_job_stands_when_that_tenant_has_left() {
    let mut held = Held::begin().await;
    the_first_leaves(&held.world, &held.tenantry);
    held.ends(Err(Failure::never("it can't be done")));
    let dead = [JobState::Dead];
    until("the job is dead", async || jobs_left(&held.scope, &dead).await == 1).await;
    let report = held.stops().await;
    assert_eq!((report.failed, report.lost), (1, 0), "{report:?}");
}

/// Databases are looked for each ten seconds, which nobody's jobs wait for.
#[tokio::test]
async fn a_database_is_found_by_another_tenant_when_that_one_has_left() {
    let world = World::new().await;
    let (names, tenantry) = by_the_first(&world);
    let scope = world.scope(1).await;
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(worker(&tenantry).handle(add).run(async {
        let _ = stopped.await;
    }));
    scope.enqueue(&Add { id: 100 }).await.unwrap();
    until("the first job is done", async || by_jobs(&scope).await == 1).await;
    names.named.lock().1 = world.tenants[1];
    the_first_leaves(&world, &tenantry);
    scope.enqueue(&Add { id: 101 }).await.unwrap();
    let soon = Duration::from_secs(5);
    within(soon, "the second job is done", async || by_jobs(&scope).await == 2).await;
    stop.send(()).unwrap();
    let report = running.await.unwrap();
    assert_eq!((report.done, report.lost), (2, 0), "{report:?}");
}
