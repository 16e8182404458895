//! What enqueueing costs: one more statement in the caller's transaction, and no round trip that any other would not take.

use std::sync::Arc;

use tenantry::{
    Error, ErrorKind, Role, Scope,
    jobs::{Job, Run},
};
use tenantry_testing::CountingProxy;
use tenantry_wire::Endpoint;

use super::{ALL, Add, by_jobs, jobs_left, work, worker};
use crate::world::World;

/// A fleet in small whose first tenant's connections are counted.
async fn counted() -> (World, CountingProxy) {
    let world = World::new().await;
    let cluster = world.databases[0].test.cluster();
    let proxy = CountingProxy::start(cluster.host(), cluster.port()).await;
    {
        let mut homes = world.source.homes.lock();
        let home = homes.get_mut(&world.tenants[0]).unwrap();
        let mut endpoint = Endpoint::clone(&home.endpoint);
        endpoint.address = tenantry_wire::Address::Tcp {
            host: "127.0.0.1".to_owned(),
            port: proxy.port(),
        };
        home.endpoint = Arc::new(endpoint);
    }
    world.tenantry.forget_placements();
    (world, proxy)
}

#[tokio::test]
async fn enqueueing_is_one_more_statement_and_no_other_round_trip() {
    let (world, proxy) = counted().await;
    let scope = world.scope(0).await;
    let plain = async |id: i32| {
        scope
            .transaction::<_, Error, _>(async |tx| {
                tx.execute("insert into contact (id, name) values ($1, 'counted')", &[&id])
                    .await?;
                Ok(())
            })
            .await
            .unwrap();
    };
    let enqueues = async |id: i32| {
        scope
            .transaction::<_, Error, _>(async |tx| {
                tx.execute("insert into contact (id, name) values ($1, 'counted')", &[&id])
                    .await?;
                tx.enqueue(&Add { id }).await?;
                Ok(())
            })
            .await
            .unwrap();
    };
    // Once without counting, so that the statements are prepared and the connection is bound.
    plain(10).await;
    enqueues(12).await;
    proxy.reset();
    plain(20).await;
    let without = proxy.read();
    proxy.reset();
    enqueues(22).await;
    let with = proxy.read();
    assert_eq!(with.round_trips, without.round_trips);
    assert_eq!(with.syncs, without.syncs);
    assert_eq!(with.statements, without.statements + 1);
    assert_eq!((with.parses, without.parses), (0, 0));
    assert_eq!(jobs_left(&scope, &ALL).await, 2);
}

/// What travels with the next statement keeps its place among them.
#[tokio::test]
async fn jobs_that_travel_later_hold_with_their_part_of_the_transaction() {
    let world = World::new().await;
    for n in [0, 2, 4] {
        let (scope, other) = (world.scope(n).await, world.scope(n).await);
        scope
            .transaction::<_, Error, _>(async |tx| {
                tx.enqueue(&Add { id: 1 }).await?;
                let undone = tx
                    .savepoint::<(), Error, _>(async |tx| {
                        tx.enqueue(&Add { id: 2 }).await?;
                        tx.query("select 1/0", &[]).await?;
                        Ok(())
                    })
                    .await;
                assert!(undone.is_err());
                let left = tx
                    .savepoint::<(), Error, _>(async |tx| {
                        tx.enqueue(&Add { id: 3 }).await?;
                        Err(given_up(&other).await)
                    })
                    .await;
                assert!(left.is_err());
                tx.savepoint::<_, Error, _>(async |tx| tx.enqueue(&Add { id: 4 }).await)
                    .await?;
                Ok(())
            })
            .await
            .unwrap();
        assert_eq!(payloads(&scope).await, [r#"{"id":1}"#, r#"{"id":4}"#], "{n}");
        // Many, and nothing else; and none where it is given up.
        scope
            .transaction::<_, Error, _>(async |tx| {
                for id in 100..300 {
                    tx.enqueue(&Add { id }).await?;
                }
                Ok(())
            })
            .await
            .unwrap();
        assert_eq!(jobs_left(&scope, &ALL).await, 202);
        let mut given_up = scope.begin().await.unwrap();
        for id in 300..500 {
            given_up.enqueue(&Add { id }).await.unwrap();
        }
        given_up.rollback().await.unwrap();
        assert_eq!(jobs_left(&scope, &ALL).await, 202);
        // What the database refuses, the commit tells, and nothing of the transaction holds.
        let refused = scope
            .transaction::<_, Error, _>(async |tx| {
                tx.execute("insert into contact (id, name) values (50, 'undone')", &[])
                    .await?;
                tx.enqueue(&NoKind {}).await
            })
            .await
            .unwrap_err();
        assert_eq!(refused.database().unwrap().code(), "23514");
        assert!(!world.names(n).await.contains(&"undone".to_owned()));
        let viewer = scope.at_most(Role::Viewer);
        let refused = viewer
            .transaction::<_, Error, _>(async |tx| tx.enqueue(&Add { id: 1 }).await)
            .await
            .unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ReadOnlyRole);
        assert_eq!(jobs_left(&scope, &ALL).await, 202);
    }
}

async fn payloads(scope: &Scope) -> Vec<String> {
    let jobs = scope.jobs(&ALL, None, 1000).await.unwrap();
    jobs.into_iter().map(|job| job.payload).collect()
}

/// Its name is none.
#[derive(serde::Serialize, serde::Deserialize)]
struct NoKind {}

impl Job for NoKind {
    const KIND: &'static str = "";
}

/// An error of no statement.
async fn given_up(scope: &Scope) -> Error {
    scope.query_one("select 1 where false", &[]).await.unwrap_err()
}

/// A handler of one statement ends its job with it, in one round trip; and has no effect once the job is another's.
#[tokio::test]
async fn a_statement_that_ends_its_job_holds_with_it() {
    let world = World::new().await;
    for n in [0, 2, 4] {
        let scope = world.scope(n).await;
        for id in 100..110 {
            scope.enqueue(&Add { id }).await.unwrap();
        }
        let handler = |run: Run, job: Add| async move {
            if job.id == 105 {
                // Refused by a key, so the job is not over.
                run.execute("insert into contact (id, name) values (1, 'twice')", &[])
                    .await?;
            }
            let rows = run
                .execute("insert into contact (id, name) values ($1, 'by a job')", &[&job.id])
                .await?;
            assert_eq!(rows, 1);
            Ok(())
        };
        work(worker(&world.tenantry).handle(handler), async || {
            by_jobs(&scope).await == 9
        })
        .await;
        let left = scope.jobs(&ALL, None, 10).await.unwrap();
        assert_eq!(left.len(), 1, "{left:?}");
        assert!(left[0].error.is_some() && left[0].payload.contains("105"));
        scope.remove_job(left[0].id).await.unwrap();
    }
}
