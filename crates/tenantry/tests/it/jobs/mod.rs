//! Jobs: enqueued with what they belong to, done once, by turns, by nobody's rights but their own.

mod claims;
mod dropped;
mod enqueued;
pub(crate) mod fleet;
mod found;
mod hung;
mod killed;
mod logged;
mod moved;
mod over;
mod schedules;
mod woken;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tenantry::{
    Error, ErrorKind, PoolConfig, Role, Scope, TenantId, Tenantry,
    jobs::{Enqueue, Failure, Job, JobState, Run, Worker, WorkerReport},
};
use tenantry_core::Epoch;
use tenantry_engine::{fence, keys};
use tokio::sync::oneshot;

use crate::world::World;

/// Adds a contact.
#[derive(Serialize, Deserialize)]
pub(crate) struct Add {
    pub(crate) id: i32,
}

impl Job for Add {
    const KIND: &'static str = "add";
}

/// Does what its text says.
#[derive(Serialize, Deserialize)]
struct Odd {
    how: String,
}

impl Job for Odd {
    const KIND: &'static str = "odd";
}

pub(crate) async fn add(run: Run, job: Add) -> Result<(), Failure> {
    run.transaction(async |tx| {
        tx.execute("insert into contact (id, name) values ($1, 'by a job')", &[&job.id])
            .await?;
        Ok(())
    })
    .await
}

pub(crate) fn worker(tenantry: &Tenantry) -> Worker {
    Worker::new(tenantry)
        .poll(Duration::from_millis(5), Duration::from_millis(20))
        .grace(Duration::from_secs(5))
        .lease(Duration::from_secs(1))
}

/// Lets a worker work until the condition holds.
pub(crate) async fn work(worker: Worker, until: impl AsyncFn() -> bool) -> WorkerReport {
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(worker.run(async {
        let _ = stopped.await;
    }));
    let end = Instant::now() + Duration::from_secs(60);
    while !until().await {
        assert!(Instant::now() < end, "the worker did not get there");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let _ = stop.send(());
    running.await.unwrap()
}

pub(crate) const ALL: [JobState; 4] = [JobState::Waiting, JobState::Running, JobState::Dead, JobState::Later];

pub(crate) async fn jobs_left(scope: &Scope, states: &[JobState]) -> usize {
    scope.jobs(states, None, 1000).await.unwrap().len()
}

pub(crate) async fn by_jobs(scope: &Scope) -> i64 {
    let sql = "select count(*) from contact where name = 'by a job'";
    scope.query_one(sql, &[]).await.unwrap().get(0).unwrap()
}

#[tokio::test]
async fn a_job_appears_with_the_transaction_and_is_done_in_each_isolation() {
    let world = World::new().await;
    for n in 0..6 {
        let scope = world.scope(n).await;
        scope
            .transaction::<_, Error, _>(async |tx| {
                tx.enqueue(&Add { id: 100 }).await?;
                Ok(())
            })
            .await
            .unwrap();
        let undone = scope
            .transaction::<(), Error, _>(async |tx| {
                tx.enqueue(&Add { id: 101 }).await?;
                tx.query("select 1/0", &[]).await?;
                Ok(())
            })
            .await;
        assert!(undone.is_err());
        scope.enqueue(&Add { id: 102 }).await.unwrap();
        assert_eq!(jobs_left(&scope, &ALL).await, 2, "{n}");
    }
    let report = work(worker(&world.tenantry).handle(add), async || {
        let mut left = 0;
        for n in 0..6 {
            left += jobs_left(&world.scope(n).await, &ALL).await;
        }
        left == 0
    })
    .await;
    assert_eq!((report.done, report.failed), (12, 0), "{report:?}");
    for n in 0..6 {
        assert_eq!(by_jobs(&world.scope(n).await).await, 2, "{n}");
    }
}

#[tokio::test]
async fn the_signed_tier_has_jobs_too() {
    let world = World::signed(PoolConfig::default()).await;
    for n in [0, 2, 4] {
        world.scope(n).await.enqueue(&Add { id: 100 }).await.unwrap();
    }
    let report = work(worker(&world.tenantry).handle(add), async || {
        let mut done = 0;
        for n in [0, 2, 4] {
            done += by_jobs(&world.scope(n).await).await;
        }
        done == 3
    })
    .await;
    assert_eq!(report.done, 3);
}

#[tokio::test]
async fn tenants_take_turns() {
    they_take_turns(0, 1).await;
}

/// Also where the other's database had nothing for a while, and so is looked at seldom.
#[tokio::test]
async fn databases_take_turns() {
    they_take_turns(4, 0).await;
}

/// Who has many waiting delays another's first by one job.
async fn they_take_turns(busy: usize, quiet: usize) {
    let world = World::new().await;
    let (other, busy, quiet) = (world.tenants[quiet], world.scope(busy).await, world.scope(quiet).await);
    let many: Vec<i32> = (1000..1300).collect();
    busy.transaction::<_, Error, _>(async |tx| {
        for id in &many {
            tx.enqueue(&Add { id: *id }).await?;
        }
        Ok(())
    })
    .await
    .unwrap();
    let order: Arc<Mutex<Vec<TenantId>>> = Arc::default();
    let seen = order.clone();
    let handler = move |run: Run, job: Add| {
        let seen = seen.clone();
        async move {
            seen.lock().push(run.scope().context().tenant);
            add(run, job).await
        }
    };
    let asked: Arc<Mutex<Option<usize>>> = Arc::default();
    let worker = worker(&world.tenantry)
        .concurrency(1)
        .poll(Duration::from_millis(5), Duration::from_secs(5));
    work(worker.handle(handler), async || {
        if order.lock().len() > 40 && asked.lock().is_none() {
            quiet.enqueue(&Add { id: 1 + 100 }).await.unwrap();
            *asked.lock() = Some(order.lock().len());
        }
        by_jobs(&quiet).await == 1
    })
    .await;
    let (order, asked) = (order.lock().clone(), asked.lock().unwrap());
    let place = order.iter().position(|tenant| *tenant == other).unwrap();
    // What was begun while the other one was being enqueued counts to it; one more is what is allowed.
    assert!(place <= asked + 2, "asked for at {asked}, begun at {place}");
    assert!(
        jobs_left(&busy, &[JobState::Waiting]).await > 200,
        "it did not wait for the others"
    );
}

/// What a claim has room for is shared by all who have something waiting, and none is claimed twice.
#[tokio::test]
async fn a_claim_is_shared_by_who_waits() {
    let world = World::new().await;
    for n in [0, 1, 2] {
        let scope = world.scope(n).await;
        scope
            .transaction::<_, Error, _>(async |tx| {
                for id in 1000..1020 {
                    tx.enqueue(&Add { id }).await?;
                }
                Ok(())
            })
            .await
            .unwrap();
    }
    let begun: Arc<Mutex<Vec<TenantId>>> = Arc::default();
    let seen = begun.clone();
    let handler = move |run: Run, job: Add| {
        let seen = seen.clone();
        async move {
            seen.lock().push(run.scope().context().tenant);
            add(run, job).await
        }
    };
    // The first one asks for as many as it has hands.
    let report = work(worker(&world.tenantry).concurrency(16).handle(handler), async || {
        let mut done = 0;
        for n in [0, 1, 2] {
            done += by_jobs(&world.scope(n).await).await;
        }
        done == 60
    })
    .await;
    assert_eq!((report.done, report.failed, report.lost), (60, 0, 0), "{report:?}");
    let begun = begun.lock();
    assert_eq!(begun.len(), 60, "each once");
    for n in [0, 1, 2] {
        let first = &begun[..16];
        let of_them = first.iter().filter(|tenant| **tenant == world.tenants[n]).count();
        assert!((4..=7).contains(&of_them), "of the first 16, tenant {n} had {of_them}");
    }
}

#[tokio::test]
async fn a_worker_that_lost_its_job_has_no_effect() {
    let world = World::new().await;
    let scope = world.scope(0).await;
    scope.enqueue(&Add { id: 100 }).await.unwrap();
    let (first_runs, runs) = oneshot::channel::<()>();
    let (go_on, going_on) = oneshot::channel::<()>();
    let gate = Arc::new(Mutex::new(Some((first_runs, going_on))));
    // Whether it was done, when its handler came to an end, be it that it was stopped.
    let outcome: Arc<Mutex<Option<bool>>> = Arc::default();
    let told = outcome.clone();
    // Does not beat: it is held up with all of its process.
    let slow = move |run: Run, job: Add| {
        let (gate, told) = (gate.lock().take(), Told(told.clone()));
        async move {
            let (first_runs, going_on) = gate.expect("the job is tried once by this one");
            first_runs.send(()).unwrap();
            going_on.await.unwrap();
            let done = add(run, job).await;
            *told.0.lock() = Some(done.is_ok());
            Ok(())
        }
    };
    let (source, audit) = (world.source.clone(), world.audit.clone());
    let stuck = held_up(move || {
        let tenantry = Tenantry::from_source(source, audit, PoolConfig::default());
        worker(&tenantry).handle(slow)
    });
    runs.await.unwrap();
    let stuck = stuck.pause();
    // Another one takes it once the lease has ended.
    let report = work(worker(&world.tenantry).handle(add), async || by_jobs(&scope).await == 1).await;
    assert_eq!(report.done, 1);
    go_on.send(()).unwrap();
    stuck.go_on();
    let end = Instant::now() + Duration::from_secs(30);
    while outcome.lock().is_none() {
        assert!(Instant::now() < end);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(outcome.lock().take(), Some(false), "a lost job was done a second time");
    assert_eq!(by_jobs(&scope).await, 1);
}

/// Tells that nothing was done, where nothing else was told.
struct Told(Arc<Mutex<Option<bool>>>);

impl Drop for Told {
    fn drop(&mut self) {
        self.0.lock().get_or_insert(false);
    }
}

/// A worker in a runtime of its own, with connections of its own, whose only thread can be held up.
struct HeldUp {
    hold: std::sync::mpsc::Sender<std::sync::mpsc::Receiver<()>>,
    let_go: Option<std::sync::mpsc::Sender<()>>,
}

fn held_up(make: impl FnOnce() -> Worker + Send + 'static) -> HeldUp {
    let (hold, holds) = std::sync::mpsc::channel::<std::sync::mpsc::Receiver<()>>();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            tokio::spawn(make().run(std::future::pending()));
            loop {
                match holds.try_recv() {
                    // Blocks the only thread: no beat goes out.
                    Ok(until) => drop(until.recv()),
                    Err(std::sync::mpsc::TryRecvError::Empty) => tokio::time::sleep(Duration::from_millis(5)).await,
                    Err(std::sync::mpsc::TryRecvError::Disconnected) => return,
                }
            }
        });
    });
    HeldUp { hold, let_go: None }
}

impl HeldUp {
    fn pause(mut self) -> Self {
        let (let_go, until) = std::sync::mpsc::channel();
        self.hold.send(until).unwrap();
        self.let_go = Some(let_go);
        self
    }

    fn go_on(&self) {
        self.let_go.as_ref().unwrap().send(()).unwrap();
    }
}

#[tokio::test]
async fn a_dropped_worker_leaves_its_jobs_to_another() {
    let world = World::new().await;
    let scope = world.scope(2).await;
    scope.enqueue(&Add { id: 100 }).await.unwrap();
    let (runs, begun) = oneshot::channel::<()>();
    let runs = Arc::new(Mutex::new(Some(runs)));
    let hangs = move |run: Run, _: Add| {
        let runs = runs.lock().take();
        async move {
            let mut tx = run.scope().begin().await?;
            tx.execute("insert into contact (id, name) values (100, 'by a job')", &[])
                .await?;
            if let Some(runs) = runs {
                runs.send(()).unwrap();
            }
            std::future::pending().await
        }
    };
    let dropped = tokio::spawn(worker(&world.tenantry).handle(hangs).run(std::future::pending()));
    begun.await.unwrap();
    dropped.abort();
    let report = work(worker(&world.tenantry).handle(add), async || by_jobs(&scope).await == 1).await;
    assert_eq!(report.done, 1);
    assert_eq!(jobs_left(&scope, &ALL).await, 0);
}

#[tokio::test]
async fn a_worker_that_is_told_to_stop_gives_back_what_does_not_end() {
    let world = World::new().await;
    let scope = world.scope(0).await;
    scope.enqueue(&Odd { how: "hang".to_owned() }).await.unwrap();
    let hang = |_: Run, _: Odd| std::future::pending::<Result<(), Failure>>();
    let worker = worker(&world.tenantry).grace(Duration::from_millis(50)).handle(hang);
    let report = work(worker, async || jobs_left(&scope, &[JobState::Running]).await == 1).await;
    assert_eq!(report.given_back, 1);
    let job = scope.jobs(&[JobState::Waiting], None, 10).await.unwrap().remove(0);
    assert_eq!(job.attempt, 0, "an attempt that was not the job's fault is counted");
}

#[tokio::test]
async fn what_fails_is_tried_again_and_then_a_dead_letter() {
    let world = World::new().await;
    let scope = world.scope(4).await;
    let other = world.scope(5).await;
    let handler = |run: Run, job: Odd| async move {
        match job.how.as_str() {
            "panics" => panic!("on purpose"),
            "never" => Err(Failure::never("it can't be done")),
            "third time" if run.attempt() < 3 => Err(Failure::retry_after(Duration::from_millis(1), "not yet")),
            "slow" => {
                tokio::time::sleep(Duration::from_secs(60)).await;
                Ok(())
            }
            _ => Ok(()),
        }
    };
    let mut ids = Vec::new();
    for how in ["panics", "never", "third time", "slow", "at once"] {
        let job = Odd { how: how.to_owned() };
        let attempts = if how == "third time" { 3 } else { 1 };
        ids.push(
            scope
                .enqueue_with(&job, Enqueue::new().attempts_max(attempts))
                .await
                .unwrap(),
        );
    }
    let one = || {
        worker(&world.tenantry)
            .job_timeout(Duration::from_millis(300))
            .handle(handler)
    };
    work(one(), async || {
        jobs_left(&scope, &ALL).await == 3 && jobs_left(&scope, &[JobState::Dead]).await == 3
    })
    .await;
    let dead = scope.jobs(&[JobState::Dead], None, 10).await.unwrap();
    let errors: Vec<&str> = dead.iter().map(|job| job.error.as_deref().unwrap()).collect();
    assert!(errors[0].contains("panicked"), "{errors:?}");
    assert!(errors[1].contains("it can't be done"), "{errors:?}");
    assert!(errors[2].contains("took longer than"), "{errors:?}");

    // Its own tenant's admins see it, and nobody else.
    assert_eq!(jobs_left(&other, &ALL).await, 0);
    let member = scope.at_most(Role::Member);
    assert_eq!(
        member
            .jobs(&ALL, None, 10)
            .await
            .unwrap_err()
            .database()
            .unwrap()
            .code(),
        "42501"
    );
    for id in &ids {
        assert!(!other.retry_job(*id).await.unwrap());
        assert!(!other.remove_job(*id).await.unwrap());
    }
    assert!(scope.retry_job(ids[1]).await.unwrap());
    assert_eq!(jobs_left(&scope, &[JobState::Waiting]).await, 1);
    assert!(scope.remove_job(ids[1]).await.unwrap());
    assert_eq!(jobs_left(&scope, &ALL).await, 2);
}

#[tokio::test]
async fn delay_priority_and_unique_key() {
    let world = World::new().await;
    let scope = world.scope(0).await;
    let job = |how: &str| Odd { how: how.to_owned() };
    let unique = || Enqueue::new().unique_key("the one");
    let first = scope.enqueue_with(&job("unique"), unique()).await.unwrap();
    assert_eq!(scope.enqueue_with(&job("again"), unique()).await.unwrap(), first);
    // Of a tenant's own, and of a kind's.
    assert_ne!(
        world
            .scope(1)
            .await
            .enqueue_with(&job("other"), unique())
            .await
            .unwrap(),
        first
    );
    assert_ne!(scope.enqueue_with(&Add { id: 7 }, unique()).await.unwrap(), first);
    scope
        .enqueue_with(&job("urgent"), Enqueue::new().priority(5))
        .await
        .unwrap();
    let late = Enqueue::new().delay(Duration::from_millis(400)).priority(9);
    let enqueued = Instant::now();
    scope.enqueue_with(&job("late"), late).await.unwrap();
    assert_eq!(jobs_left(&scope, &[JobState::Later]).await, 1);
    let order: Arc<Mutex<Vec<(String, Duration)>>> = Arc::default();
    let (seen, mine) = (order.clone(), world.tenants[0]);
    let handler = move |run: Run, job: Odd| {
        if run.scope().context().tenant == mine {
            seen.lock().push((job.how, enqueued.elapsed()));
        }
        async { Ok(()) }
    };
    let worker = worker(&world.tenantry).concurrency(1).handle(handler).handle(add);
    work(worker, async || jobs_left(&scope, &ALL).await == 0).await;
    let order = order.lock().clone();
    let names: Vec<&str> = order.iter().map(|(how, _)| how.as_str()).collect();
    assert_eq!(names, ["urgent", "unique", "late"]);
    assert!(order[2].1 >= Duration::from_millis(400));
    // It is over, so the key is free.
    assert_ne!(scope.enqueue_with(&job("anew"), unique()).await.unwrap(), first);
}

#[tokio::test]
async fn jobs_of_a_suspended_tenant_wait() {
    let world = World::new().await;
    let (scope, other) = (world.scope(0).await, world.scope(1).await);
    scope.enqueue(&Add { id: 100 }).await.unwrap();
    other.enqueue(&Add { id: 100 }).await.unwrap();
    let admin = &world.databases[0].admin;
    fence::close(admin, world.tenants[0], Epoch::FIRST, fence::Closed::Suspended)
        .await
        .unwrap();
    let report = work(worker(&world.tenantry).handle(add), async || by_jobs(&other).await == 1).await;
    assert_eq!((report.done, report.failed, report.given_back), (1, 0, 0));
    fence::open(admin, world.tenants[0], Epoch::FIRST).await.unwrap();
    let report = work(worker(&world.tenantry).handle(add), async || {
        jobs_left(&scope, &ALL).await == 0
    })
    .await;
    assert_eq!(report.done, 1);
}

/// Which is no fault of the job's: even one with a single attempt waits, and has it still.
/// What a move brings ahead of its tenant is nobody's to take before the tenant lives there.
#[tokio::test]
async fn jobs_of_a_tenant_that_is_on_its_way_wait() {
    let world = World::new().await;
    let scope = world.scope(0).await;
    let first = scope.enqueue(&Add { id: 100 }).await.unwrap();
    scope.enqueue(&Add { id: 101 }).await.unwrap();
    let admin = &world.databases[0].admin;
    let late = TenantId::from_uuid(uuid::Uuid::now_v7());
    fence::register(admin, late, Epoch::FIRST, false).await.unwrap();
    admin
        .execute(
            "update tenantry_private.job set tenant = $1 where id = $2",
            &[late.as_uuid(), first.as_uuid()],
        )
        .await
        .unwrap();
    let report = work(worker(&world.tenantry).handle(add), async || {
        jobs_left(&scope, &ALL).await == 0
    })
    .await;
    assert_eq!(report.done, 1);
    // Not even to find that it is not as it was signed.
    let row = admin
        .query_one(
            "select state, attempt from tenantry_private.job where tenant = $1",
            &[late.as_uuid()],
        )
        .await
        .unwrap();
    assert_eq!((row.get::<_, i16>(0), row.get::<_, i16>(1)), (0, 0));
}

#[tokio::test]
async fn a_job_whose_tenant_is_suspended_while_it_runs_is_given_back_with_its_attempt() {
    let world = World::new().await;
    for (n, database) in [(0, 0), (2, 0), (4, 1)] {
        let scope = world.scope(n).await;
        let once = Enqueue::new().attempts_max(1);
        let id = scope.enqueue_with(&Add { id: 100 }, once).await.unwrap();
        let (runs, begun) = oneshot::channel::<()>();
        let (go_on, goes_on) = oneshot::channel::<()>();
        let gate = Mutex::new(Some((runs, goes_on)));
        let handler = move |run: Run, job: Add| {
            let gate = gate.lock().take();
            async move {
                let (runs, goes_on) = gate.expect("the job is tried once");
                runs.send(()).unwrap();
                goes_on.await.unwrap();
                add(run, job).await
            }
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let one = worker(&world.tenantry).lease(Duration::from_secs(60)).handle(handler);
        let running = tokio::spawn(one.run(async {
            let _ = stopped.await;
        }));
        begun.await.unwrap();
        let (admin, tenant) = (&world.databases[database].admin, world.tenants[n]);
        fence::close(admin, tenant, Epoch::FIRST, fence::Closed::Suspended)
            .await
            .unwrap();
        go_on.send(()).unwrap();
        // Its admins are refused as everybody is.
        let sql = "select state = 1 from tenantry_private.job where tenant = $1";
        let runs = async || -> bool { admin.query_one(sql, &[tenant.as_uuid()]).await.unwrap().get(0) };
        let begun = Instant::now();
        while runs().await {
            assert!(begun.elapsed() < Duration::from_secs(30), "{n}: it runs still");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        stop.send(()).unwrap();
        let report = running.await.unwrap();
        assert_eq!((report.given_back, report.failed, report.lost), (1, 0, 0), "{report:?}");
        fence::open(admin, tenant, Epoch::FIRST).await.unwrap();
        let left = scope.jobs(&ALL, None, 10).await.unwrap();
        assert_eq!(left.len(), 1, "{n}: {left:?}");
        assert_eq!(
            (left[0].id, left[0].state, left[0].attempt),
            (id, JobState::Later, 0),
            "{n}"
        );
        assert_eq!(by_jobs(&scope).await, 0, "{n}");
        assert!(scope.remove_job(id).await.unwrap());
    }
}

/// What was enqueued under an old key is done under the new one; what was changed by hand never.
#[tokio::test]
async fn rows_are_signed() {
    let world = World::new().await;
    let (scope, other) = (world.scope(0).await, world.scope(1).await);
    let good = scope.enqueue(&Add { id: 100 }).await.unwrap();
    let bent = scope.enqueue(&Add { id: 101 }).await.unwrap();
    let moved = scope.enqueue(&Add { id: 102 }).await.unwrap();
    let admin = &world.databases[0].admin;
    let change = "update tenantry_private.job set payload = '{\"id\": 666}' where id = $1";
    assert_eq!(admin.execute(change, &[bent.as_uuid()]).await.unwrap(), 1);
    let change = "update tenantry_private.job set tenant = $2 where id = $1";
    assert_eq!(
        admin
            .execute(change, &[moved.as_uuid(), world.tenants[1].as_uuid()])
            .await
            .unwrap(),
        1
    );
    let old = world.source.homes.lock()[&world.tenants[0]].key.clone();
    let new = keys::generate(&[old.id()]);
    keys::add(admin, &new).await.unwrap();
    for home in world.source.homes.lock().values_mut() {
        if home.key.id() == old.id() && home.placement.database == world.databases[0].id {
            home.key = new.clone();
        }
    }
    world.tenantry.forget_placements();
    assert!(keys::retire(admin, old.id()).await.unwrap());
    let report = work(worker(&world.tenantry).handle(add), async || {
        jobs_left(&scope, &[JobState::Dead]).await == 1
            && jobs_left(&other, &[JobState::Dead]).await == 1
            && by_jobs(&scope).await == 1
    })
    .await;
    assert_eq!((report.done, report.failed), (1, 0));
    assert_eq!(by_jobs(&other).await, 0);
    for (scope, id) in [(&scope, bent), (&other, moved)] {
        let dead = scope.jobs(&[JobState::Dead], None, 10).await.unwrap().remove(0);
        assert_eq!(dead.id, id);
        assert!(dead.error.unwrap().contains("not as this database signed it"));
        assert!(!scope.retry_job(id).await.unwrap(), "it is as wrong as before");
    }
    assert!(!scope.retry_job(good).await.unwrap());
}

/// SQL that runs as the application's role gets at no job of another tenant, and at no worker's functions.
#[tokio::test]
async fn hostile_sql_gets_nowhere() {
    let world = World::new().await;
    let (scope, other) = (world.scope(0).await, world.scope(1).await);
    let theirs = other.enqueue(&Add { id: 100 }).await.unwrap();
    let id = theirs.as_uuid().simple().to_string();
    let tenant = world.tenants[1].as_uuid();
    for sql in [
        "select * from tenantry_private.job".to_owned(),
        "delete from tenantry_private.job".to_owned(),
        "select nextval('tenantry_private.job_lease')".to_owned(),
        format!("select tenantry.job_done('{id}', 1)"),
        "select * from tenantry.job_claim('', '', 'x', '{add}', null, 1, '1 s', null)".to_owned(),
        "select * from tenantry.job_claim(decode(repeat('00', 24) || '04' || repeat('7f', 33), 'hex'), \
         decode(repeat('00', 32), 'hex'), 'x', '{add}', null, 1, '1 s', null)"
            .to_owned(),
        "select * from tenantry.job_claim(null, null, 'x', '{add}', null, 1, '1 s', null)".to_owned(),
        format!("select tenantry.job_failed('', '', '{tenant}', '{id}', 1, 'x', null)"),
        format!("select tenantry.job_release('', '', '{{{tenant}}}', '{{{id}}}', '{{1}}', '0 s')"),
        format!("select tenantry.job_beat('', '', '{{{tenant}}}', '{{{id}}}', '{{1}}', '1 s')"),
        "select tenantry_private.job_purge(null, 1)".to_owned(),
        "select * from tenantry_private.schedule".to_owned(),
        "select * from tenantry_private.job_list(null, null, '{0,1,2,3}', null, null, 100)".to_owned(),
        "select tenantry_private.job_retry(null, null, null, 100)".to_owned(),
        "select tenantry_private.job_remove(null, null, null, 100)".to_owned(),
        format!("select * from tenantry_private.schedule_list('{tenant}')"),
        format!("select tenantry_private.schedule_remove('{tenant}', 'nightly')"),
        "select * from tenantry.job_take('', '', 'x', '{add}', 0::int2, null, null, 1, '1 s', null, true)".to_owned(),
        "select * from tenantry.schedule_due('', '', '{x}', '{add}', 10)".to_owned(),
        "select tenantry.schedule_everyone('', '', 'x', '* * * * *', 'UTC', 1::int2, 'add', '{}', 3::int2, 0::int2, 1::int2, 10)".to_owned(),
        format!(
            "select tenantry.schedule_move('', '', '{{{tenant}}}', '{{f}}', '{{x}}', '{{null}}', '{{now}}', '{{null}}', '{{null}}', '{{{id}}}')"
        ),
        "select * from tenantry.job_take('', '', 'x', '{add}', 0::int2, null, null, 1, '1 s', null, true, true)".to_owned(),
        "select tenantry_private.job_pick(0::int2, null, '{add}', 1, '{}', true)".to_owned(),
        "select tenantry_private.schedule_put(null)".to_owned(),
        "select tenantry_private.job_sign_again(0, 0)".to_owned(),
        "select tenantry_private.require_admin()".to_owned(),
    ] {
        let code = scope.raw().query(&sql, &[]).await.unwrap_err();
        let code = code
            .database()
            .unwrap_or_else(|| panic!("{sql}: {code}"))
            .code()
            .to_owned();
        assert!(["42501", "28000", "TN004"].contains(&code.as_str()), "{sql}: {code}");
    }
    // An id that another tenant's job has is as good as any other.
    let mine = format!("select tenantry.enqueue('{id}', 'add', '{{\"id\": 1}}', '0 s', 0::int2, 1::int2, null)");
    scope.raw().query(&mine, &[]).await.unwrap();
    assert_eq!(jobs_left(&scope, &ALL).await, 1);
    assert!(scope.remove_job(theirs).await.unwrap());
    assert_eq!(jobs_left(&other, &ALL).await, 1);
    let viewer = scope.at_most(Role::Viewer);
    assert_eq!(
        viewer.enqueue(&Add { id: 1 }).await.unwrap_err().kind(),
        ErrorKind::ReadOnlyRole
    );
}

/// A tenant's token opens no worker's functions, and a worker's binds no session.
#[tokio::test]
async fn tokens_are_good_for_one_thing() {
    let world = World::new().await;
    let home = world.source.homes.lock()[&world.tenants[0]].clone();
    let options = tenantry_wire::Options::default();
    let mut connection = tenantry_wire::Connection::connect(home.endpoint.clone(), &options)
        .await
        .unwrap();
    let now_us = chrono::Utc::now().timestamp_micros();
    let token = tenantry_core::seal::Token {
        tenant: world.tenants[0],
        counter: 1,
        fresh: true,
        raw: false,
        role: Role::Owner,
        now_us,
        backend_pid: connection.process_id(),
        account: None,
        epoch: Epoch::FIRST,
    };
    let claim = "select * from tenantry.job_claim($1, $2, 'x', '{add}', null, 1, '1 s', null)";
    let tenants = home.key.sign(&token);
    let refused = connection
        .query(claim, &[&tenants.message.as_slice(), &tenants.mac.as_slice()])
        .await;
    assert_eq!(refused.unwrap_err().database().unwrap().code(), "28000");
    let workers = home.key.sign_worker(connection.process_id(), now_us);
    let enter = "select tenantry.enter($1, $2)";
    let refused = connection
        .query(enter, &[&workers.message.as_slice(), &workers.mac.as_slice()])
        .await;
    assert_eq!(refused.unwrap_err().database().unwrap().code(), "TN001");
    // On the backend that it names, and there only.
    connection
        .query(claim, &[&workers.message.as_slice(), &workers.mac.as_slice()])
        .await
        .unwrap();
    let elsewhere = home.key.sign_worker(connection.process_id() ^ 1, now_us);
    let refused = connection
        .query(claim, &[&elsewhere.message.as_slice(), &elsewhere.mac.as_slice()])
        .await;
    assert_eq!(refused.unwrap_err().database().unwrap().code(), "28000");
    let stale = home.key.sign_worker(connection.process_id(), now_us - 60_000_000);
    let refused = connection
        .query(claim, &[&stale.message.as_slice(), &stale.mac.as_slice()])
        .await;
    assert_eq!(refused.unwrap_err().database().unwrap().code(), "28000");
}

#[tokio::test]
async fn one_tenant_runs_no_more_at_a_time_than_it_may() {
    let world = World::new().await;
    let scope = world.scope(0).await;
    for _ in 0..12 {
        scope.enqueue(&Odd { how: String::new() }).await.unwrap();
    }
    let most: Arc<Mutex<(usize, usize)>> = Arc::default();
    let counts = most.clone();
    let handler = move |_: Run, _: Odd| {
        let counts = counts.clone();
        async move {
            {
                let mut counts = counts.lock();
                counts.0 += 1;
                counts.1 = counts.1.max(counts.0);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
            counts.lock().0 -= 1;
            Ok(())
        }
    };
    let one = || {
        worker(&world.tenantry)
            .concurrency(4)
            .per_tenant_max(2)
            .handle(handler.clone())
    };
    let (stop, stopped) = oneshot::channel::<()>();
    let beside = tokio::spawn(one().run(async {
        let _ = stopped.await;
    }));
    work(one(), async || jobs_left(&scope, &ALL).await == 0).await;
    stop.send(()).unwrap();
    beside.await.unwrap();
    assert_eq!(most.lock().1, 2);
}

/// Many workers, many jobs: each once. No lease ends meanwhile, however slow the machine is.
#[tokio::test]
async fn each_job_is_done_once_by_many_workers() {
    let world = World::new().await;
    for n in [0, 1, 2] {
        let scope = world.scope(n).await;
        scope
            .transaction::<_, Error, _>(async |tx| {
                for id in 1000..1100 {
                    tx.enqueue(&Add { id }).await?;
                }
                Ok(())
            })
            .await
            .unwrap();
    }
    let stops: Vec<_> =
        (0..3)
            .map(|_| {
                let (stop, stopped) = oneshot::channel::<()>();
                let running = tokio::spawn(worker(&world.tenantry).lease(Duration::from_secs(60)).handle(add).run(
                    async {
                        let _ = stopped.await;
                    },
                ));
                (stop, running)
            })
            .collect();
    let report = work(
        worker(&world.tenantry).lease(Duration::from_secs(60)).handle(add),
        async || {
            let mut done = 0;
            for n in [0, 1, 2] {
                done += by_jobs(&world.scope(n).await).await;
            }
            done == 300
        },
    )
    .await;
    let mut done = report.done;
    for (stop, running) in stops {
        stop.send(()).unwrap();
        let report = running.await.unwrap();
        assert_eq!((report.failed, report.lost), (0, 0), "{report:?}");
        done += report.done;
    }
    assert_eq!(done, 300);
}
