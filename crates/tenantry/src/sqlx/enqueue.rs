//! Jobs in a transaction of sqlx.

use ::sqlx::Postgres;

use super::Transaction;
use crate::{
    Error,
    jobs::{
        Enqueue, Job, JobId,
        foreign::{ENQUEUE, Values, id_of},
    },
};

impl Transaction {
    /// Enqueues a job that appears when this transaction commits, and never if it does not; see
    /// [`tenantry::jobs`](crate::jobs). It takes a round trip, as every statement of sqlx does.
    ///
    /// # Errors
    ///
    /// As [`Transaction::enqueue`](crate::Transaction::enqueue); what the database says against it is told at once.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses the transaction: its connection is closed.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # #[derive(serde::Serialize, serde::Deserialize)]
    /// # struct Greet { contact: i32 }
    /// # impl tenantry::jobs::Job for Greet { const KIND: &'static str = "greet"; }
    /// # async fn example(scope: tenantry::Scope) -> Result<(), tenantry::Error> {
    /// scope
    ///     .transaction_sqlx(async |tx| {
    ///         sqlx::query("insert into contact (id, name) values (1, 'Ada')").execute(&mut *tx).await?;
    ///         tx.enqueue(&Greet { contact: 1 }).await?;
    ///         Ok(())
    ///     })
    ///     .await
    /// # }
    /// ```
    pub async fn enqueue<J: Job>(&mut self, job: &J) -> Result<JobId, Error> {
        self.enqueue_with(job, Enqueue::new()).await
    }

    /// The same with a delay, a priority, a unique key: where there is a job with the same one, its id is given.
    ///
    /// # Errors
    ///
    /// As [`enqueue`](Self::enqueue).
    ///
    /// # Cancel safety
    ///
    /// As [`enqueue`](Self::enqueue).
    pub async fn enqueue_with<J: Job>(&mut self, job: &J, how: Enqueue) -> Result<JobId, Error> {
        let values = Values::of(&self.scope, job, how).await?;
        let answer: String = ::sqlx::query_scalar::<Postgres, String>(ENQUEUE)
            .bind(values.id)
            .bind(values.kind)
            .bind(values.payload)
            .bind(values.delay_s)
            .bind(values.priority)
            .bind(values.attempts_max)
            .bind(values.unique_key)
            .bind(values.api_key)
            .fetch_one(&mut *self)
            .await?;
        self.enqueued = true;
        id_of(Some(&answer))
    }
}
