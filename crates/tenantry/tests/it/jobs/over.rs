//! A handler that goes on after the transaction that ended its job: the job is over, and what comes after is the handler's own affair.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tenantry::{
    Error, Scope,
    jobs::{Failure, Run},
};
use tokio::sync::oneshot;

use super::{ALL, Add, Odd, by_jobs, jobs_left, worker};
use crate::world::World;

async fn end(run: &Run, id: i32) -> Result<(), Error> {
    run.transaction(async |tx| {
        tx.execute("insert into contact (id, name) values ($1, 'by a job')", &[&id])
            .await?;
        Ok(())
    })
    .await
}

/// Waits until the worker has kept the lease of what still runs so many times.
async fn beats(world: &World, times: usize) {
    let sql =
        "select extract(epoch from leased_until)::float8 from tenantry_private.job where kind = 'odd' and state = 1";
    let leased = async || {
        let admin = &world.databases[0].admin;
        admin.query_one(sql, &[]).await.unwrap().get::<_, f64>(0)
    };
    let begun = Instant::now();
    let (mut last, mut seen) = (leased().await, 0);
    while seen < times {
        assert!(begun.elapsed() < Duration::from_secs(20), "the worker does not beat");
        tokio::time::sleep(Duration::from_millis(10)).await;
        let now = leased().await;
        seen += usize::from(now > last);
        last = now;
    }
}

/// What a handler is told, and what it tells.
#[derive(Default)]
struct Gate {
    committed: Option<oneshot::Sender<()>>,
    goes_on: Option<oneshot::Receiver<()>>,
}

#[tokio::test]
async fn a_handler_that_goes_on_after_its_commit_is_not_stopped_and_its_job_is_done() {
    let world = World::new().await;
    let scope: Scope = world.scope(0).await;
    let (committed, is_committed) = oneshot::channel::<()>();
    let (go_on, goes_on) = oneshot::channel::<()>();
    let gate = Arc::new(Mutex::new(Gate {
        committed: Some(committed),
        goes_on: Some(goes_on),
    }));
    let went_on: Arc<Mutex<bool>> = Arc::default();
    let told = went_on.clone();
    let goes = move |run: Run, job: Add| {
        let gate = std::mem::take(&mut *gate.lock());
        let told = told.clone();
        async move {
            end(&run, job.id).await?;
            gate.committed.expect("it is tried once").send(()).unwrap();
            gate.goes_on.expect("it is tried once").await.unwrap();
            *told.lock() = true;
            Ok::<(), Failure>(())
        }
    };
    // Beside it one whose lease shows the beats.
    let (over, is_over) = oneshot::channel::<()>();
    let is_over = Arc::new(Mutex::new(Some(is_over)));
    let holds = move |_: Run, _: Odd| {
        let is_over = is_over.lock().take();
        async move {
            let _ = is_over.expect("it is tried once").await;
            Ok::<(), Failure>(())
        }
    };
    scope.enqueue(&Odd { how: String::new() }).await.unwrap();
    scope.enqueue(&Add { id: 100 }).await.unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(worker(&world.tenantry).handle(goes).handle(holds).run(async {
        let _ = stopped.await;
    }));
    is_committed.await.unwrap();
    assert_eq!(by_jobs(&scope).await, 1);
    beats(&world, 3).await;
    go_on.send(()).expect("the handler is there still");
    over.send(()).unwrap();
    while jobs_left(&scope, &ALL).await > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    stop.send(()).unwrap();
    let report = running.await.unwrap();
    assert!(*went_on.lock(), "it was cut off");
    assert_eq!((report.done, report.failed, report.lost), (2, 0, 0), "{report:?}");
}

#[tokio::test]
async fn a_handler_that_fails_after_its_commit_has_done_its_job() {
    let world = World::new().await;
    let scope = world.scope(0).await;
    let fails = |run: Run, job: Add| async move {
        end(&run, job.id).await?;
        match job.id {
            100 => Err(Failure::retry("too late")),
            101 => panic!("on purpose"),
            _ => std::future::pending().await,
        }
    };
    for id in 100..103 {
        scope.enqueue(&Add { id }).await.unwrap();
    }
    // The third one is cut off when the worker has waited for it long enough.
    let worker = worker(&world.tenantry).grace(Duration::from_millis(50)).handle(fails);
    let report = super::work(worker, async || by_jobs(&scope).await == 3).await;
    assert_eq!((report.done, report.failed), (3, 0), "{report:?}");
    assert_eq!((report.given_back, report.lost), (0, 0), "{report:?}");
    assert_eq!(jobs_left(&scope, &ALL).await, 0);
}
