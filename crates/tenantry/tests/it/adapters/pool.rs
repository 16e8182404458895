//! The bounds on connections of other drivers.

use std::{sync::Arc, time::Duration};

use tenantry::{Error, ErrorKind, PoolConfig};

use super::{sessions, small};
use crate::world::World;

#[tokio::test]
async fn connections_of_sqlx_are_bounded_and_shared_fairly() {
    let world = Arc::new(World::with(small(2)).await);
    let tasks = (0..8).map(|task| {
        let world = world.clone();
        tokio::spawn(async move {
            for step in 0..10 {
                // Shared tables and two schemas in one database.
                let n = (task + step) % 4;
                let names: Vec<String> = sqlx::query_scalar("select name from contact")
                    .fetch_all(&world.scope(n).await)
                    .await
                    .unwrap();
                assert_eq!(names, [format!("contact of {n}")]);
            }
        })
    });
    let tasks: Vec<_> = tasks.collect();
    for _ in 0..20 {
        // Two of sqlx, two of the scopes that filled the tables.
        let open = sessions(&world, 0).await.len();
        assert!(open <= 4, "{open} connections");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::test]
async fn a_caller_of_sqlx_waits_for_a_bounded_time() {
    let world = World::with(small(1)).await;
    let scope = world.scope(0).await;
    let held = scope.begin_sqlx().await.unwrap();
    let refused = Error::from(sqlx::query("select 1").execute(&scope).await.unwrap_err());
    assert_eq!(refused.kind(), ErrorKind::PoolFull, "{refused}");
    assert!(refused.retry_after().is_some());
    // The scope's own connections and diesel's are others.
    world.names(0).await;
    scope.begin_diesel().await.unwrap().commit().await.unwrap();
    held.commit().await.unwrap();
    sqlx::query("select 1").execute(&scope).await.unwrap();
}

#[tokio::test]
async fn connections_that_the_server_ended_are_replaced() {
    let world = World::with(small(2)).await;
    let scope = world.scope(0).await;
    for _ in 0..2 {
        sqlx::query("select 1").execute(&scope).await.unwrap();
        scope.begin_diesel().await.unwrap().commit().await.unwrap();
        let place = &world.databases[0];
        let sql = "select count(pg_terminate_backend(pid, 5000)) from pg_stat_activity where usename = $1";
        let ended: i64 = place
            .admin
            .query_one(sql, &[&place.target.application.as_str()])
            .await
            .unwrap()
            .get(0);
        assert!(ended >= 2);
    }
    sqlx::query("select 1").execute(&scope).await.unwrap();
    scope.begin_diesel().await.unwrap().commit().await.unwrap();
}

#[tokio::test]
async fn a_statement_that_takes_too_long_is_stopped() {
    let world = World::with(PoolConfig {
        statement_timeout: Duration::from_millis(300),
        ..small(1)
    })
    .await;
    let scope = world.scope(0).await;
    let error = Error::from(sqlx::query("select pg_sleep(30)").execute(&scope).await.unwrap_err());
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    sqlx::query("select 1").execute(&scope).await.unwrap();
}

#[tokio::test]
async fn a_changed_schema_spoils_a_statement_once() {
    let mut world = World::with(small(2)).await;
    let read = "select * from project";
    for n in [0, 2, 4] {
        sqlx::query(read).fetch_one(&world.scope(n).await).await.unwrap();
    }
    let files = [
        ("0001_first.sql", crate::world::MIGRATION),
        ("0002_more.sql", "alter table project add column note text;"),
    ];
    world.migrate_all(&files).await;
    // The first failure replaces every connection to its database: the schema of tenant 2 is in that of tenant 0.
    for (n, is_first) in [(0, true), (2, false), (4, true)] {
        let scope = world.scope(n).await;
        if is_first {
            let stale = sqlx::query(read).fetch_one(&scope).await.unwrap_err();
            assert_eq!(Error::from(stale).database().unwrap().code(), "0A000");
        }
        for _ in 0..3 {
            let row = sqlx::query(read).fetch_one(&scope).await.unwrap();
            assert_eq!(sqlx::Row::len(&row), 4);
        }
    }
}

#[tokio::test]
async fn callers_of_sqlx_wait_by_turns_of_their_tenants() {
    let world = Arc::new(World::with(small(1)).await);
    let waiting = |world: &World| -> usize {
        let status = world.tenantry.pool_status();
        status.iter().map(|(_, status)| status.waiting).sum()
    };
    let held = world.scope(0).await.begin_sqlx().await.unwrap();
    let order = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let mut tasks = Vec::new();
    // Five of one tenant, then one of another.
    for n in 0..6 {
        let tenant = usize::from(n == 5);
        let (own, order) = (world.clone(), order.clone());
        tasks.push(tokio::spawn(async move {
            let scope = own.scope(tenant).await;
            let transaction = scope.begin_sqlx().await.unwrap();
            order.lock().push(tenant);
            transaction.commit().await.unwrap();
        }));
        // Each stands in the queue before the next comes.
        while waiting(&world) <= n {
            tokio::task::yield_now().await;
        }
    }
    held.commit().await.unwrap();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(order.lock().iter().position(|tenant| *tenant == 1), Some(1));
}

/// A backend that computes does not notice for a while that nobody reads any more; until it has ended, it counts.
#[tokio::test]
async fn what_is_given_up_in_the_middle_counts_until_its_backend_has_ended() {
    let world = World::with(PoolConfig {
        server_connections_max: 2,
        ..small(2)
    })
    .await;
    let scope = world.scope(0).await;
    for _ in 0..5 {
        let mut given_up = scope.begin_sqlx().await.unwrap();
        let long = sqlx::query("select pg_sleep(60)").execute(&mut given_up);
        let ended = tokio::time::timeout(Duration::from_millis(20), long).await;
        assert!(ended.is_err(), "it can't have ended");
        drop(given_up);
        sqlx::query("select 1").execute(&scope).await.unwrap();
        let diesel = scope.begin_diesel().await.unwrap();
        let (open, _) = world.sessions().await;
        assert!(open <= 2, "{open} connections");
        diesel.commit().await.unwrap();
    }
}
