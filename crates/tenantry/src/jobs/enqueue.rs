//! Enqueueing.

use std::{fmt, time::Duration};

use serde::{Serialize, de::DeserializeOwned};
use uuid::Uuid;

use crate::{Error, ErrorKind, Scope, Transaction};

/// What there is to do, as a value that is stored as JSON.
pub trait Job: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The name it is stored under, 1 to 200 bytes: it stays when the type is renamed.
    const KIND: &'static str;
}

/// Names a job within its tenant.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId(Uuid);

impl JobId {
    pub(super) fn new() -> Self {
        Self(Uuid::now_v7())
    }

    /// Wraps a uuid that is known to name a job.
    pub const fn from_uuid(uuid: Uuid) -> Self {
        Self(uuid)
    }

    /// The uuid.
    pub const fn as_uuid(&self) -> &Uuid {
        &self.0
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How a job is enqueued: at once, with priority 0 and 25 attempts, unless said otherwise.
#[derive(Clone, Debug)]
#[must_use = "it says how a job is enqueued, and enqueues none"]
pub struct Enqueue {
    delay: Duration,
    priority: i16,
    attempts_max: i16,
    unique_key: Option<String>,
}

impl Default for Enqueue {
    fn default() -> Self {
        Self {
            delay: Duration::ZERO,
            priority: 0,
            // With the usual pauses, some two days.
            attempts_max: 25,
            unique_key: None,
        }
    }
}

impl Enqueue {
    /// The usual way.
    pub fn new() -> Self {
        Self::default()
    }

    /// Not before this has passed, by the database's clock.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Before jobs of the same tenant with a smaller priority; other tenants' turns stay as they are.
    pub fn priority(mut self, priority: i16) -> Self {
        self.priority = priority;
        self
    }

    /// How often it is tried at most, at least once.
    pub fn attempts_max(mut self, attempts: i16) -> Self {
        self.attempts_max = attempts.max(1);
        self
    }

    /// One at a time: while a job of this kind and tenant with the same key waits or runs, no other is enqueued, and the
    /// earlier one's id is given. At most 500 bytes.
    pub fn unique_key(mut self, key: impl Into<String>) -> Self {
        self.unique_key = Some(key.into());
        self
    }
}

const ENQUEUE: &str = "select tenantry.enqueue($1, $2, $3, pg_catalog.make_interval(secs => $4), $5, $6, $7)";

/// What stands in the statement.
struct Row {
    id: Uuid,
    payload: String,
    delay_s: f64,
}

impl Row {
    fn of<J: Job>(job: &J, how: &Enqueue) -> Result<Self, Error> {
        let payload = serde_json::to_string(job).map_err(|error| {
            Error::new(
                ErrorKind::Parameter,
                format!("the job can't be written as JSON: {error}"),
            )
        })?;
        Ok(Self {
            id: *JobId::new().as_uuid(),
            payload,
            delay_s: how.delay.as_secs_f64(),
        })
    }
}

/// The same on a scope and in a transaction.
macro_rules! enqueue {
    ($on:expr, $job:ident, $how:ident, $kind:expr) => {{
        let row = Row::of($job, &$how)?;
        let found = $on
            .query_one(
                ENQUEUE,
                &[
                    &row.id,
                    &$kind,
                    &row.payload,
                    &row.delay_s,
                    &$how.priority,
                    &$how.attempts_max,
                    &$how.unique_key,
                ],
            )
            .await?;
        JobId::from_uuid(found.get(0)?)
    }};
}

impl Transaction {
    /// Enqueues a job that appears when this transaction commits, and never if it does not: one more statement, no more
    /// round trips than any other.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query); [`ErrorKind::ReadOnlyRole`] for a viewer.
    pub async fn enqueue<J: Job>(&mut self, job: &J) -> Result<JobId, Error> {
        self.enqueue_with(job, Enqueue::new()).await
    }

    /// The same with a delay, a priority, a unique key.
    ///
    /// # Errors
    ///
    /// As [`enqueue`](Self::enqueue).
    pub async fn enqueue_with<J: Job>(&mut self, job: &J, how: Enqueue) -> Result<JobId, Error> {
        let id = enqueue!(self, job, how, J::KIND);
        self.enqueued();
        Ok(id)
    }
}

impl Scope {
    /// Enqueues a job by itself.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query); [`ErrorKind::ReadOnlyRole`] for a viewer.
    ///
    /// # Cancel safety
    ///
    /// As [`query`](Self::query): dropped, it is not known whether the job was enqueued.
    pub async fn enqueue<J: Job>(&self, job: &J) -> Result<JobId, Error> {
        self.enqueue_with(job, Enqueue::new()).await
    }

    /// The same with a delay, a priority, a unique key.
    ///
    /// # Errors
    ///
    /// As [`enqueue`](Self::enqueue).
    pub async fn enqueue_with<J: Job>(&self, job: &J, how: Enqueue) -> Result<JobId, Error> {
        let id = enqueue!(self, job, how, J::KIND);
        if let Some(database) = self.pools().database_of(self.caller()) {
            self.tenantry().inner.job_wakes.wake(database);
        }
        Ok(id)
    }
}
