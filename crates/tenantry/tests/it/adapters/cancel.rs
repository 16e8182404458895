//! Dropping work of other drivers at each of its awaits, and then letting another tenant have the connection.

use std::{future::Future, pin::pin, task::Poll, time::Duration};

use diesel_async::RunQueryDsl;
use tenantry::Error;

use super::{nothing_is_open, sessions, small};
use crate::world::World;

/// Polls a future at most `polls` times, with a little time between, and drops it then; whether it ended by itself.
async fn dropped_after(polls: usize, pause: Duration, future: impl Future) -> bool {
    let mut future = pin!(future);
    for _ in 0..polls {
        let polled = std::future::poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_ready()));
        if polled.await {
            return true;
        }
        // What was spawned goes on meanwhile; the waker is not waited for, so that each state of it is met.
        tokio::time::sleep(pause).await;
    }
    false
}

/// The next tenant finds its own rows and no context before that; nothing is left open.
async fn nothing_is_left(world: &World, n: usize) {
    let scope = world.scope(n).await;
    let names: Vec<String> = sqlx::query_scalar("select name from contact where id = 1")
        .fetch_all(&scope)
        .await
        .unwrap();
    assert_eq!(names, [format!("contact of {n}")]);
    let names: Result<Vec<Name>, Error> = scope
        .transaction_diesel(async |tx| {
            Ok(diesel::sql_query("select name from contact where id = 1")
                .load(tx)
                .await?)
        })
        .await;
    let names = names.unwrap();
    assert_eq!((names.len(), &names[0].name), (1, &format!("contact of {n}")));
    nothing_is_open(world).await;
    // One connection of sqlx, one of diesel, one of the scope itself.
    assert!(sessions(world, 0).await.len() <= 3);
}

#[derive(diesel::QueryableByName)]
struct Name {
    #[diesel(sql_type = diesel::sql_types::Text)]
    name: String,
}

/// Drops `work` in tenant 0 after more and more polls, until it ends by itself.
async fn at_every_poll<F: Future>(world: &World, others: [usize; 2], work: impl Fn(usize) -> F) {
    for pause in [Duration::ZERO, Duration::from_micros(300)] {
        let mut ended = 0;
        for polls in 1..400 {
            if dropped_after(polls, pause, work(polls)).await {
                ended += 1;
            }
            nothing_is_left(world, others[polls % 2]).await;
            // The number of polls varies with the weather; a few ends in a row are the end.
            if ended == 3 {
                break;
            }
        }
        assert_eq!(ended, 3, "the work never came to its end");
    }
}

#[tokio::test]
async fn a_begin_of_sqlx_dropped_at_any_poll_leaves_nothing() {
    let world = World::with(small(1)).await;
    let scope = world.scope(0).await;
    at_every_poll(&world, [1, 2], |_| scope.begin_sqlx()).await;
    world.assert_untouched().await;
}

#[tokio::test]
async fn a_transaction_of_sqlx_dropped_at_any_poll_leaves_nothing() {
    let world = World::with(small(1)).await;
    let scope = world.scope(0).await;
    at_every_poll(&world, [1, 3], |polls| {
        let scope = &scope;
        async move {
            let done: Result<(), Error> = scope
                .transaction_sqlx(async |tx| {
                    sqlx::query("insert into contact (id, name) values ($1, 'dropped')")
                        .bind(1000 + polls as i32)
                        .execute(&mut *tx)
                        .await?;
                    // The same row again: whoever commits before this has committed too early.
                    sqlx::query("update contact set name = 'whole' where id = $1")
                        .bind(1000 + polls as i32)
                        .execute(&mut *tx)
                        .await?;
                    Ok(())
                })
                .await;
            // The second way through meets the rows of the first.
            assert!(done.is_ok() || done.unwrap_err().database().unwrap().code() == "23505");
        }
    })
    .await;
    let halves: i64 = sqlx::query_scalar("select count(*) from contact where name = 'dropped'")
        .fetch_one(&scope)
        .await
        .unwrap();
    assert_eq!(halves, 0);
    for n in 1..6 {
        assert_eq!(world.names(n).await, [format!("contact of {n}")]);
    }
}

#[tokio::test]
async fn a_begin_of_diesel_dropped_at_any_poll_leaves_nothing() {
    let world = World::with(small(1)).await;
    let scope = world.scope(2).await;
    at_every_poll(&world, [0, 3], |_| scope.begin_diesel()).await;
    world.assert_untouched().await;
}

#[tokio::test]
async fn a_transaction_of_diesel_dropped_at_any_poll_leaves_nothing() {
    let world = World::with(small(1)).await;
    let scope = world.scope(0).await;
    at_every_poll(&world, [1, 2], |_| {
        let scope = &scope;
        async move {
            let done: Result<(), Error> = scope
                .transaction_diesel(async |tx| {
                    diesel::sql_query("update contact set name = name || ' changed'")
                        .execute(tx)
                        .await?;
                    Err(diesel::result::Error::RollbackTransaction.into())
                })
                .await;
            assert!(done.is_err());
        }
    })
    .await;
    world.assert_untouched().await;
}
