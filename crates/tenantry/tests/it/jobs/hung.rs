//! A database or a catalog that hangs: the others' jobs, leases and schedules go on.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use parking_lot::Mutex;
use tenantry::{
    Home, LocateError, PlacementSource, PoolConfig, Served, Tenantry,
    jobs::{JobState, Run, Schedule},
};
use tenantry_core::{TenantDatabaseId, TenantId};
use tokio::sync::oneshot;

use super::{Add, Odd, add, by_jobs, jobs_left, worker};
use crate::world::World;

/// Long before a call that hangs is given up.
const SOON: Duration = Duration::from_secs(10);

/// Whoever asks this database for what stands in the table hangs, until [`let_go`].
async fn hold(world: &World, database: usize, table: &str) {
    let sql = format!("begin; lock table tenantry_private.{table}");
    world.databases[database].admin.batch_execute(&sql).await.unwrap();
}

async fn let_go(world: &World, database: usize) {
    world.databases[database].admin.batch_execute("rollback").await.unwrap();
}

/// Waits until somebody hangs there.
async fn somebody_hangs(world: &World, database: usize) {
    let sql = "select exists (select from pg_locks l join pg_class c on c.oid = l.relation
                               where not l.granted and c.relname in ('job', 'schedule')
                                 and l.database = (select oid from pg_database where datname = current_database()))";
    let begun = Instant::now();
    while !world.databases[database]
        .admin
        .query_one(sql, &[])
        .await
        .unwrap()
        .get::<_, bool>(0)
    {
        assert!(begun.elapsed() < SOON, "nobody asks database {database}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// As another process has it: nobody here is told what it enqueues.
fn elsewhere(world: &World) -> Tenantry {
    Tenantry::from_source(world.source.clone(), world.audit.clone(), PoolConfig::default())
}

async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < SOON, "{what} not soon enough");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn databases_that_hang_keep_no_jobs_of_another_from_being_done() {
    let world = World::new().await;
    let other = elsewhere(&world);
    let scope = other.system_context(world.tenants[0], "test").await.unwrap();
    for database in [1, 2] {
        hold(&world, database, "job").await;
    }
    let (stop, stopped) = oneshot::channel::<()>();
    // Each of the two that hang was asked for a half of what there is room for, before anybody knew.
    let one = worker(&world.tenantry).concurrency(2).grace(Duration::from_millis(100));
    let running = tokio::spawn(one.handle(add).run(async {
        let _ = stopped.await;
    }));
    for database in [1, 2] {
        somebody_hangs(&world, database).await;
    }
    for id in 100..110 {
        scope.enqueue(&Add { id }).await.unwrap();
    }
    until("the jobs of a database that answers are done", async || {
        by_jobs(&scope).await == 10
    })
    .await;
    // Those that are back are asked again.
    for (database, tenant) in [(1, 4), (2, 5)] {
        let_go(&world, database).await;
        let scope = other.system_context(world.tenants[tenant], "test").await.unwrap();
        scope.enqueue(&Add { id: 100 }).await.unwrap();
        until("the jobs of a database that is back are done", async || {
            by_jobs(&scope).await == 1
        })
        .await;
    }
    stop.send(()).unwrap();
    let report = running.await.unwrap();
    assert_eq!((report.done, report.failed, report.lost), (12, 0, 0), "{report:?}");
}

/// While a worker that was told to stop waits for a database that hangs, what still runs keeps its lease.
#[tokio::test]
async fn leases_are_kept_while_a_worker_that_stops_waits_for_a_database_that_hangs() {
    let world = World::new().await;
    let scope = world.scope(0).await;
    let (runs, begun) = oneshot::channel::<()>();
    let (end, ends) = oneshot::channel::<()>();
    let gate = Arc::new(Mutex::new(Some((runs, ends))));
    let handler = move |_: Run, _: Odd| {
        let gate = gate.lock().take();
        async move {
            let (runs, ends) = gate.expect("the job is tried once");
            runs.send(()).unwrap();
            let _ = ends.await;
            Ok(())
        }
    };
    scope.enqueue(&Odd { how: String::new() }).await.unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let one = worker(&world.tenantry).grace(Duration::from_secs(20)).handle(handler);
    let running = tokio::spawn(one.run(async {
        let _ = stopped.await;
    }));
    begun.await.unwrap();
    hold(&world, 1, "job").await;
    somebody_hangs(&world, 1).await;
    stop.send(()).unwrap();
    // The lease of a second, as it is when the worker stops, and as it can only be when beats went out a second later.
    let admin = &world.databases[0].admin;
    let lease = "select extract(epoch from leased_until)::float8 from tenantry_private.job where state = 1";
    let leased = async || admin.query_one(lease, &[]).await.unwrap().get::<_, f64>(0);
    let first = leased().await;
    until("the lease is kept", async || leased().await > first + 1.0).await;
    end.send(()).unwrap();
    until("the job is done", async || {
        jobs_left(&scope, &[JobState::Running]).await == 0
    })
    .await;
    let_go(&world, 1).await;
    let report = running.await.unwrap();
    assert_eq!((report.done, report.lost), (1, 0), "{report:?}");
}

/// A clock looks at each database by itself.
#[tokio::test]
async fn a_database_that_hangs_keeps_no_schedule_of_another_from_being_due() {
    let world = World::new().await;
    let scope = world.scope(0).await;
    let nightly = Schedule::new("0 3 * * *").unwrap();
    scope.set_schedule("nightly", &nightly, &Add { id: 100 }).await.unwrap();
    hold(&world, 1, "schedule").await;
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(worker(&world.tenantry).handle(add).run(async {
        let _ = stopped.await;
    }));
    somebody_hangs(&world, 1).await;
    let due = "update tenantry_private.schedule
                  set next_at = clock_timestamp() - interval '1 s', dealt_at = clock_timestamp() - interval '2 s'";
    world.databases[0].admin.execute(due, &[]).await.unwrap();
    // Clocks look when a schedule is set in their process.
    let never = Schedule::new("0 0 1 1 *").unwrap();
    scope
        .set_schedule("look", &never, &Odd { how: String::new() })
        .await
        .unwrap();
    until("the schedule's job is done", async || by_jobs(&scope).await == 1).await;
    let_go(&world, 1).await;
    stop.send(()).unwrap();
    running.await.unwrap();
}

/// Never says which databases there are.
struct Hangs(Arc<crate::world::Source>);

#[async_trait]
impl PlacementSource for Hangs {
    async fn locate(&self, tenant: TenantId) -> Result<Home, LocateError> {
        self.0.locate(tenant).await
    }

    async fn locate_served(&self, tenant: TenantId) -> Result<Served, LocateError> {
        self.0.locate_served(tenant).await
    }

    async fn served_databases(&self) -> Result<Vec<TenantDatabaseId>, LocateError> {
        std::future::pending().await
    }
}

#[tokio::test]
async fn a_worker_whose_catalog_hangs_does_what_it_is_told() {
    let world = World::new().await;
    let source = Arc::new(Hangs(world.source.clone()));
    let tenantry = Tenantry::from_source(source, world.audit.clone(), PoolConfig::default());
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(worker(&tenantry).handle(add).run(async {
        let _ = stopped.await;
    }));
    stop.send(()).unwrap();
    let stopped = tokio::time::timeout(SOON, running).await;
    assert!(stopped.is_ok(), "it waits for the catalog");
}
