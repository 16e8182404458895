//! One attempt at a job, as its handler sees it.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use tenantry_wire::Ahead;

use super::{JobId, claim::Claimed, over::Over};
use crate::{Error, Params, Scope, Transaction, whole::whole};

/// One attempt at a job: whose it is, and access to that tenant.
#[derive(Clone, Debug)]
pub struct Run {
    scope: Scope,
    job: Arc<Claimed>,
    over: Over,
}

const DONE: &str = "select tenantry.job_done($1, $2)";

impl Run {
    pub(super) fn new(scope: Scope, job: Arc<Claimed>, over: Over) -> Self {
        Self { scope, job, over }
    }

    /// Access to the job's tenant, as who enqueued it, with the rights that person or API key has now.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// The job's id: the same in each attempt, so that what happens outside of PostgreSQL can be recognised.
    pub fn id(&self) -> JobId {
        self.job.id
    }

    /// Which attempt this is, from 1 on.
    pub fn attempt(&self) -> u32 {
        u32::from(self.job.attempt.unsigned_abs())
    }

    /// Whether there is none after it.
    pub fn is_last_attempt(&self) -> bool {
        self.job.attempt >= self.job.attempts_max
    }

    /// When it was enqueued, by the database's clock.
    pub fn enqueued_at(&self) -> DateTime<Utc> {
        self.job.enqueued_at
    }

    /// Runs `work` in a transaction in which the job ends: what it did holds if and only if the job is over, whatever dies in
    /// between. A job that another worker has by now is refused with the first statement.
    ///
    /// What the handler does after the commit is no longer the job's: it goes on for as long as an attempt may take, and where it
    /// fails that is logged, and tried again by nobody.
    ///
    /// # Errors
    ///
    /// What `work` gives, or the failure to begin or to commit.
    ///
    /// # Cancel safety
    ///
    /// As [`Scope::transaction`].
    pub async fn transaction<T, E, F>(&self, work: F) -> Result<T, E>
    where
        F: AsyncFnOnce(&mut Transaction) -> Result<T, E>,
        E: From<Error>,
    {
        let ending = self.over.ending();
        let mut transaction = self.scope.begin().await?;
        // Before the first statement, in its round trip: its lock on the job keeps a second worker waiting.
        transaction.put_ahead(self.ending()).await?;
        let value = whole!(transaction, work)?;
        ending.committed();
        Ok(value)
    }

    /// Runs one statement with which the job ends: both hold, or neither, in one round trip where a
    /// [`transaction`](Self::transaction) takes two. Gives the number of rows it touched.
    ///
    /// # Errors
    ///
    /// As [`Scope::execute`].
    ///
    /// # Cancel safety
    ///
    /// As [`Scope::execute`].
    pub async fn execute(&self, sql: &str, params: Params<'_>) -> Result<u64, Error> {
        let scope = &self.scope;
        let ending = self.over.ending();
        let outcome = scope
            .pools()
            .query_after(scope.caller(), self.ending(), sql, params)
            .await?;
        ending.committed();
        Ok(outcome.affected)
    }

    fn ending(&self) -> Ahead {
        Ahead::job_done(self.job.id.as_uuid().as_bytes(), self.job.lease)
    }

    /// Ends a job whose handler did not do it in a transaction.
    pub(super) async fn end(&self) -> Result<(), Error> {
        if !self.over.is_done() {
            let ending = self.over.ending();
            self.scope
                .execute(DONE, &[self.job.id.as_uuid(), &self.job.lease])
                .await?;
            ending.committed();
        }
        Ok(())
    }
}
