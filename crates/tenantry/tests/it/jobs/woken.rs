//! Who is told of what its own process enqueues.

use std::time::{Duration, Instant};

use tenantry::jobs::{Failure, Run};
use tokio::sync::oneshot;

use super::{ALL, Add, Odd, add, jobs_left, worker};
use crate::world::World;

/// Two workers in one process, each with the handler of another kind: whichever hears it first, the other one does too.
#[tokio::test]
async fn each_worker_of_a_process_is_told_what_is_enqueued_there() {
    let world = World::new().await;
    let scope = world.scope(0).await;
    // They find nothing by looking.
    let long = Duration::from_secs(600);
    let one = || worker(&world.tenantry).poll(long, long);
    let (stop_adds, adds_stopped) = oneshot::channel::<()>();
    let (stop_odds, odds_stopped) = oneshot::channel::<()>();
    let adds = tokio::spawn(one().handle(add).run(async {
        let _ = adds_stopped.await;
    }));
    let odd = |_: Run, _: Odd| async { Ok::<(), Failure>(()) };
    let odds = tokio::spawn(one().handle(odd).run(async {
        let _ = odds_stopped.await;
    }));
    let all_done = async || {
        let begun = Instant::now();
        while jobs_left(&scope, &ALL).await > 0 {
            assert!(
                begun.elapsed() < Duration::from_secs(10),
                "who has the handler was not told"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    for id in 100..104 {
        scope.enqueue(&Add { id }).await.unwrap();
        all_done().await;
    }
    for _ in 0..4 {
        scope.enqueue(&Odd { how: String::new() }).await.unwrap();
        all_done().await;
    }
    stop_adds.send(()).unwrap();
    stop_odds.send(()).unwrap();
    assert_eq!((adds.await.unwrap().done, odds.await.unwrap().done), (4, 4));
}
