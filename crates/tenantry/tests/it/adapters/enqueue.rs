//! Jobs that are enqueued in transactions of other drivers.

use std::time::Duration;

use diesel::sql_types::Integer;
use diesel_async::RunQueryDsl as _;
use tenantry::{Error, ErrorKind, Excess, Role, jobs::Enqueue};

use crate::{
    jobs::{ALL, Add, add, by_jobs, jobs_left, work, worker},
    world::World,
};

const INSERT: &str = "insert into contact (id, name) values ($1, 'by hand')";
/// Longer than the test takes.
const NEVER: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn a_job_appears_with_the_transaction_of_sqlx_and_never_without() {
    let world = World::new().await;
    for n in [0, 2, 4] {
        let scope = world.scope(n).await;
        let kept = async |id: i32| -> Result<(), Error> {
            scope
                .transaction_sqlx(async |tx| {
                    sqlx::query(INSERT).bind(id).execute(&mut *tx).await?;
                    tx.enqueue(&Add { id: id + 1 }).await?;
                    let once = Enqueue::new().unique_key("once").delay(NEVER);
                    let first = tx.enqueue_with(&Add { id: 0 }, once.clone()).await?;
                    assert_eq!(tx.enqueue_with(&Add { id: 0 }, once).await?, first);
                    Ok(())
                })
                .await
        };
        let undone = async |id: i32| -> Result<(), Error> {
            scope
                .transaction_sqlx(async |tx| {
                    sqlx::query(INSERT).bind(id).execute(&mut *tx).await?;
                    tx.enqueue(&Add { id: id + 1 }).await?;
                    sqlx::query("select 1 / 0").execute(&mut *tx).await?;
                    Ok(())
                })
                .await
        };
        undone(20).await.unwrap_err();
        assert_eq!(jobs_left(&scope, &ALL).await, 0, "{n}");
        // Until the commit nobody has it, also one who asks meanwhile.
        let mut open = scope.begin_sqlx().await.unwrap();
        open.enqueue(&Add { id: 30 }).await.unwrap();
        assert_eq!(jobs_left(&scope, &ALL).await, 0, "{n}");
        open.rollback().await.unwrap();
        kept(10).await.unwrap();
        assert_eq!(jobs_left(&scope, &ALL).await, 2, "{n}");
        work(worker(&world.tenantry).handle(add), async || by_jobs(&scope).await == 1).await;
        let done = scope
            .query_one("select name from contact where id = 11", &[])
            .await
            .unwrap();
        assert_eq!(done.get::<String>(0).unwrap(), "by a job");
        assert_eq!(jobs_left(&world.scope(n ^ 1).await, &ALL).await, 0, "{n}");

        let viewer = scope.at_most(Role::Viewer);
        let mut reads = viewer.begin_sqlx().await.unwrap();
        let refused = reads.enqueue(&Add { id: 40 }).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ReadOnlyRole);
    }
}

#[tokio::test]
async fn a_job_appears_with_the_transaction_of_diesel_and_never_without() {
    let world = World::new().await;
    for n in [0, 2, 4] {
        let scope = world.scope(n).await;
        let kept = async |id: i32| -> Result<(), Error> {
            scope
                .transaction_diesel(async |tx| {
                    diesel::sql_query(INSERT).bind::<Integer, _>(id).execute(tx).await?;
                    tx.enqueue(&Add { id: id + 1 }).await?;
                    let once = Enqueue::new().unique_key("once").delay(NEVER);
                    let first = tx.enqueue_with(&Add { id: 0 }, once.clone()).await?;
                    assert_eq!(tx.enqueue_with(&Add { id: 0 }, once).await?, first);
                    Ok(())
                })
                .await
        };
        let undone = async |id: i32| -> Result<(), Error> {
            scope
                .transaction_diesel(async |tx| {
                    diesel::sql_query(INSERT).bind::<Integer, _>(id).execute(tx).await?;
                    tx.enqueue(&Add { id: id + 1 }).await?;
                    diesel::sql_query("select 1 / 0").execute(tx).await?;
                    Ok(())
                })
                .await
        };
        undone(20).await.unwrap_err();
        assert_eq!(jobs_left(&scope, &ALL).await, 0, "{n}");
        // Until the commit nobody has it, also one who asks meanwhile.
        let mut open = scope.begin_diesel().await.unwrap();
        open.enqueue(&Add { id: 30 }).await.unwrap();
        assert_eq!(jobs_left(&scope, &ALL).await, 0, "{n}");
        open.rollback().await.unwrap();
        kept(10).await.unwrap();
        assert_eq!(jobs_left(&scope, &ALL).await, 2, "{n}");
        work(worker(&world.tenantry).handle(add), async || by_jobs(&scope).await == 1).await;
        let done = scope
            .query_one("select name from contact where id = 11", &[])
            .await
            .unwrap();
        assert_eq!(done.get::<String>(0).unwrap(), "by a job");
        assert_eq!(jobs_left(&world.scope(n ^ 1).await, &ALL).await, 0, "{n}");

        let viewer = scope.at_most(Role::Viewer);
        let mut reads = viewer.begin_diesel().await.unwrap();
        let refused = reads.enqueue(&Add { id: 40 }).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ReadOnlyRole);
    }
}

#[tokio::test]
async fn a_tenant_with_as_many_jobs_as_its_plan_gives_enqueues_none_by_another_driver_either() {
    let world = World::new().await;
    let scope = world.scope(0).await;
    let jobs = Excess {
        limit: Excess::JOBS.to_owned(),
        quota: 1,
        used: 1,
    };
    world.source.excess.lock().push(jobs);
    world.tenantry.forget_placement(world.tenants[0]).await;
    let by_sqlx: Result<(), Error> = scope
        .transaction_sqlx(async |tx| {
            sqlx::query(INSERT).bind(20_i32).execute(&mut *tx).await?;
            tx.enqueue(&Add { id: 21 }).await?;
            Ok(())
        })
        .await;
    let by_diesel: Result<(), Error> = scope
        .transaction_diesel(async |tx| {
            diesel::sql_query(INSERT).bind::<Integer, _>(30).execute(tx).await?;
            tx.enqueue(&Add { id: 31 }).await?;
            Ok(())
        })
        .await;
    for refused in [by_sqlx, by_diesel] {
        let error = refused.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PlanLimit, "{error}");
        assert_eq!(error.limit().map(|hit| hit.limit.as_str()), Some(Excess::JOBS));
    }
    assert_eq!(jobs_left(&scope, &ALL).await, 0);
    // Nothing else is refused.
    sqlx::query(INSERT).bind(40_i32).execute(&scope).await.unwrap();
    assert_eq!(world.names(0).await, ["contact of 0", "by hand"]);
}
