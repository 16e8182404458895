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

use super::{ALL, Odd, jobs_left, worker};
use crate::world::{Source, World};

/// Names one database, by a tenant that need not live there any more.
struct Names {
    homes: Arc<Source>,
    named: (TenantDatabaseId, TenantId),
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
        Ok(vec![self.named])
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

impl Held {
    async fn begin() -> Self {
        let world = World::new().await;
        let names = Names {
            homes: world.source.clone(),
            named: (world.databases[0].id, world.tenants[0]),
        };
        let tenantry = Tenantry::from_source(Arc::new(names), world.audit.clone(), PoolConfig::default());
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

    /// The first tenant lives in a database of its own from here on.
    fn first_leaves(&self) {
        {
            let mut homes = self.world.source.homes.lock();
            let mut home = homes[&self.world.tenants[4]].clone();
            home.placement.tenant = self.world.tenants[0];
            homes.insert(self.world.tenants[0], home);
        }
        self.tenantry.forget_placements();
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
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < Duration::from_secs(30), "{what}: not in time");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn leases_are_kept_when_the_tenant_by_which_their_database_was_found_has_left() {
    let mut held = Held::begin().await;
    let first = held.leased_until().await;
    held.first_leaves();
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
    held.first_leaves();
    held.ends(Err(Failure::never("it can't be done")));
    let dead = [JobState::Dead];
    until("the job is dead", async || jobs_left(&held.scope, &dead).await == 1).await;
    let report = held.stops().await;
    assert_eq!((report.failed, report.lost), (1, 0), "{report:?}");
}
