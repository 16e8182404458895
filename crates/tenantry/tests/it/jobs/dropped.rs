//! The end of a job, dropped at every await it has: its work and its end hold together, or neither does.

use std::time::Duration;

use tenantry::jobs::{Failure, Job, JobState, Run};
use tokio::sync::{mpsc, oneshot};

use super::{ALL, jobs_left, worker};
use crate::{dropped::dropped_after, world::World};

/// Ends when it is told to.
#[derive(serde::Serialize, serde::Deserialize)]
struct Held {}

impl Job for Held {
    const KIND: &'static str = "held";
}

/// By what the job ends.
#[derive(Clone, Copy, Debug)]
enum End {
    Transaction,
    Statement,
}

const INSERT: &str = "insert into contact (id, name) values ($1, 'by a job')";
/// Neither has as many awaits.
const POLLS_MAX: usize = 200;

/// Ends the job of tenant `n`, dropped after one poll more each time, until its work is there; tells how often it was dropped.
async fn end_at_every_await(world: &World, n: usize, run: &Run, end: End) -> usize {
    let mut dropped = 0;
    for polls in 1..POLLS_MAX {
        let id = 1000 + i32::try_from(polls).unwrap();
        let ended = match end {
            End::Transaction => {
                let work = async |tx: &mut tenantry::Transaction| tx.execute(INSERT, &[&id]).await;
                dropped_after(polls, run.transaction(work)).await
            }
            End::Statement => dropped_after(polls, run.execute(INSERT, &[&id])).await,
        };
        let after = format!("{end:?} of tenant {n} after {polls} polls");
        dropped += usize::from(!ended);
        world.nobody_is_in_a_transaction(&after).await;
        let scope = world.scope(n).await;
        let sql = "select count(*) from contact where name = 'by a job'";
        let rows: i64 = scope.query_one(sql, &[]).await.unwrap().get(0).unwrap();
        let running = jobs_left(&scope, &[JobState::Running]).await;
        match rows {
            0 => assert!(!ended && running == 1, "{after}: {running} running"),
            rows => {
                assert_eq!((rows, jobs_left(&scope, &ALL).await), (1, 0), "{after}");
                return dropped;
            }
        }
    }
    panic!("{end:?} never came to its end");
}

#[tokio::test]
async fn the_end_of_a_job_dropped_at_every_await_holds_with_its_work_or_not_at_all() {
    let world = World::new().await;
    let (runs, mut taken) = mpsc::unbounded_channel();
    // A busy machine must not lose the job to a later claim.
    let worker = worker(&world.tenantry)
        .lease(Duration::from_secs(60))
        .handle(move |run: Run, _: Held| {
            let (over, is_over) = oneshot::channel::<()>();
            runs.send((run, over)).unwrap();
            async move {
                let _ = is_over.await;
                Ok::<_, Failure>(())
            }
        });
    // One tenant of each isolation.
    let all = async {
        for n in [0, 2, 4] {
            let scope = world.scope(n).await;
            for end in [End::Transaction, End::Statement] {
                scope
                    .execute("delete from contact where name = 'by a job'", &[])
                    .await
                    .unwrap();
                scope.enqueue(&Held {}).await.unwrap();
                let (run, over) = taken.recv().await.unwrap();
                let dropped = end_at_every_await(&world, n, &run, end).await;
                assert!(dropped >= 1, "{end:?} of tenant {n}: nothing was dropped half way");
                // The worker may have noticed that the job is over, and stopped the handler.
                let _ = over.send(());
            }
        }
    };
    let (stop, is_stopped) = oneshot::channel::<()>();
    let working = worker.run(async {
        let _ = is_stopped.await;
    });
    let (report, ()) = tokio::join!(working, async {
        all.await;
        stop.send(()).unwrap();
    });
    assert_eq!(report.failed, 0, "{report:?}");
}
