//! Jobs that are enqueued in transactions of other drivers.

use std::time::Duration;

use diesel::sql_types::Integer;
use diesel_async::RunQueryDsl as _;
use tenantry::{
    Error, ErrorKind, Excess, Role, Scope,
    jobs::{Enqueue, JobId},
};

use crate::{
    jobs::{ALL, Add, add, by_jobs, jobs_left, work, worker},
    world::World,
};

const INSERT: &str = "insert into contact (id, name) values ($1, 'by hand')";
const FAIL: &str = "select 1 / 0";
/// Longer than the test takes.
const NEVER: Duration = Duration::from_secs(3600);

/// What the transactions of all drivers can do here.
trait Driven: Sized {
    async fn begin(scope: &Scope) -> Result<Self, Error>;
    async fn whole(scope: &Scope, work: impl AsyncFnOnce(&mut Self) -> Result<(), Error>) -> Result<(), Error>;
    async fn insert(&mut self, id: i32) -> Result<(), Error>;
    async fn fail(&mut self) -> Result<(), Error>;
    async fn add(&mut self, id: i32) -> Result<JobId, Error>;
    async fn add_with(&mut self, id: i32, how: Enqueue) -> Result<JobId, Error>;
    async fn undo(self) -> Result<(), Error>;
}

impl Driven for tenantry::sqlx::Transaction {
    async fn begin(scope: &Scope) -> Result<Self, Error> {
        scope.begin_sqlx().await
    }

    async fn whole(scope: &Scope, work: impl AsyncFnOnce(&mut Self) -> Result<(), Error>) -> Result<(), Error> {
        scope.transaction_sqlx(work).await
    }

    async fn insert(&mut self, id: i32) -> Result<(), Error> {
        sqlx::query(INSERT).bind(id).execute(&mut *self).await?;
        Ok(())
    }

    async fn fail(&mut self) -> Result<(), Error> {
        sqlx::query(FAIL).execute(&mut *self).await?;
        Ok(())
    }

    async fn add(&mut self, id: i32) -> Result<JobId, Error> {
        self.enqueue(&Add { id }).await
    }

    async fn add_with(&mut self, id: i32, how: Enqueue) -> Result<JobId, Error> {
        self.enqueue_with(&Add { id }, how).await
    }

    async fn undo(self) -> Result<(), Error> {
        self.rollback().await
    }
}

impl Driven for tenantry::diesel::Transaction {
    async fn begin(scope: &Scope) -> Result<Self, Error> {
        scope.begin_diesel().await
    }

    async fn whole(scope: &Scope, work: impl AsyncFnOnce(&mut Self) -> Result<(), Error>) -> Result<(), Error> {
        scope.transaction_diesel(work).await
    }

    async fn insert(&mut self, id: i32) -> Result<(), Error> {
        diesel::sql_query(INSERT).bind::<Integer, _>(id).execute(self).await?;
        Ok(())
    }

    async fn fail(&mut self) -> Result<(), Error> {
        diesel::sql_query(FAIL).execute(self).await?;
        Ok(())
    }

    async fn add(&mut self, id: i32) -> Result<JobId, Error> {
        self.enqueue(&Add { id }).await
    }

    async fn add_with(&mut self, id: i32, how: Enqueue) -> Result<JobId, Error> {
        self.enqueue_with(&Add { id }, how).await
    }

    async fn undo(self) -> Result<(), Error> {
        self.rollback().await
    }
}

async fn a_job_appears_with_its_transaction_and_never_without<T: Driven>() {
    let world = World::new().await;
    for n in [0, 2, 4] {
        let scope = world.scope(n).await;
        let undone = T::whole(&scope, async |tx: &mut T| {
            tx.insert(20).await?;
            tx.add(21).await?;
            tx.fail().await
        });
        undone.await.unwrap_err();
        assert_eq!(jobs_left(&scope, &ALL).await, 0, "{n}");
        // Until the commit nobody has it, also one who asks meanwhile.
        let mut open = T::begin(&scope).await.unwrap();
        open.add(30).await.unwrap();
        assert_eq!(jobs_left(&scope, &ALL).await, 0, "{n}");
        open.undo().await.unwrap();
        let kept = T::whole(&scope, async |tx: &mut T| {
            tx.insert(10).await?;
            tx.add(11).await?;
            let once = Enqueue::new().unique_key("once").delay(NEVER);
            let first = tx.add_with(0, once.clone()).await?;
            assert_eq!(tx.add_with(0, once).await?, first);
            Ok(())
        });
        kept.await.unwrap();
        assert_eq!(jobs_left(&scope, &ALL).await, 2, "{n}");
        work(worker(&world.tenantry).handle(add), async || by_jobs(&scope).await == 1).await;
        let done = scope
            .query_one("select name from contact where id = 11", &[])
            .await
            .unwrap();
        assert_eq!(done.get::<String>(0).unwrap(), "by a job");
        assert_eq!(jobs_left(&world.scope(n ^ 1).await, &ALL).await, 0, "{n}");

        let mut reads = T::begin(&scope.at_most(Role::Viewer)).await.unwrap();
        let refused = reads.add(40).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ReadOnlyRole);
    }
}

#[tokio::test]
async fn a_job_appears_with_the_transaction_of_sqlx_and_never_without() {
    a_job_appears_with_its_transaction_and_never_without::<tenantry::sqlx::Transaction>().await;
}

#[tokio::test]
async fn a_job_appears_with_the_transaction_of_diesel_and_never_without() {
    a_job_appears_with_its_transaction_and_never_without::<tenantry::diesel::Transaction>().await;
}

/// Inserts a row and enqueues a job, which both happen or neither.
async fn both<T: Driven>(scope: &Scope) -> Result<(), Error> {
    let both = T::whole(scope, async |tx: &mut T| {
        tx.insert(20).await?;
        tx.add(21).await?;
        Ok(())
    });
    both.await
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
    for refused in [
        both::<tenantry::sqlx::Transaction>(&scope).await,
        both::<tenantry::diesel::Transaction>(&scope).await,
    ] {
        let error = refused.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PlanLimit, "{error}");
        assert_eq!(error.limit().map(|hit| hit.limit.as_str()), Some(Excess::JOBS));
    }
    assert_eq!(jobs_left(&scope, &ALL).await, 0);
    // Nothing else is refused.
    sqlx::query(INSERT).bind(40_i32).execute(&scope).await.unwrap();
    assert_eq!(world.names(0).await, ["contact of 0", "by hand"]);
}
