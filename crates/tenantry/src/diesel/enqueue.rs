//! Jobs in a transaction of diesel.

use diesel::sql_types::{Double, Nullable, SmallInt, Text};
use diesel_async::RunQueryDsl;

use super::{Transaction, driver::Answer};
use crate::{
    Error,
    jobs::{
        Enqueue, Job, JobId,
        foreign::{ENQUEUE, Values, id_of},
    },
};

impl Transaction {
    /// Enqueues a job that appears when this transaction commits, and never if it does not; see
    /// [`tenantry::jobs`](crate::jobs). It takes a round trip, as every statement of diesel does.
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
    ///     .transaction_diesel(async |tx| {
    ///         // Queries of diesel on `tx`.
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
        let answers: Vec<Answer> = diesel::sql_query(ENQUEUE)
            .bind::<Text, _>(values.id)
            .bind::<Text, _>(values.kind)
            .bind::<Text, _>(values.payload)
            .bind::<Double, _>(values.delay_s)
            .bind::<SmallInt, _>(values.priority)
            .bind::<SmallInt, _>(values.attempts_max)
            .bind::<Nullable<Text>, _>(values.unique_key)
            .bind::<Nullable<Text>, _>(values.api_key)
            .load(self)
            .await?;
        self.enqueued = true;
        id_of(answers.as_slice().first().and_then(|answer| answer.0.as_deref()))
    }
}
