//! Enqueueing.

use std::time::Duration;

use serde::{Serialize, de::DeserializeOwned};
use tenantry_core::{Excess, JobId, Role};
use tenantry_pool::Grant;
use tenantry_wire::Ahead;
use uuid::Uuid;

use crate::{Error, ErrorKind, Scope, Transaction};

/// What there is to do, as a value that is stored as JSON.
pub trait Job: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The name it is stored under, 1 to 200 bytes: it stays when the type is renamed.
    const KIND: &'static str;
}

/// How a job is enqueued: at once, with priority 0 and 25 attempts, unless said otherwise.
#[derive(Clone, Debug)]
#[must_use = "it says how a job is enqueued, and enqueues none"]
pub struct Enqueue {
    delay: Duration,
    pub(super) priority: i16,
    pub(super) attempts_max: i16,
    pub(super) unique_key: Option<String>,
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

const ENQUEUE: &str = "select tenantry.enqueue($1, $2, $3, pg_catalog.make_interval(secs => $4), $5, $6, $7, $8)";

const PAYLOAD_BYTES_MAX: usize = 1024 * 1024;

/// What stands in the statement.
pub(super) struct Row {
    pub(super) id: Uuid,
    pub(super) payload: String,
    pub(super) delay_s: f64,
}

impl Row {
    pub(super) fn of<J: Job>(job: &J, how: &Enqueue) -> Result<Self, Error> {
        let payload = to_json(job)?;
        if payload.len() > PAYLOAD_BYTES_MAX {
            let text = format!("a job's JSON has {PAYLOAD_BYTES_MAX} bytes at most: put what is large into a table");
            return Err(Error::new(ErrorKind::Parameter, text));
        }
        Ok(Self {
            id: Uuid::now_v7(),
            payload,
            delay_s: how.delay.as_secs_f64(),
        })
    }
}

/// Refuses a job more than the tenant's plan gives, as it was measured last.
pub(super) fn has_room(grant: &Grant) -> Result<(), Error> {
    match grant.excess.iter().find(|excess| excess.limit == Excess::JOBS) {
        Some(excess) => Err(Error::plan_limit(
            excess,
            "it can enqueue again when some are done or taken out",
        )),
        None => Ok(()),
    }
}

/// Refuses who may not write, without asking the database.
pub(super) fn may_enqueue(role: Role) -> Result<(), Error> {
    match role.may_write() {
        true => Ok(()),
        false => {
            let text = "the role viewer may not write, so it enqueues nothing";
            Err(Error::new(ErrorKind::ReadOnlyRole, text))
        }
    }
}

/// As it is stored.
pub(super) fn to_json<J: Job>(job: &J) -> Result<String, Error> {
    serde_json::to_string(job).map_err(|error| {
        Error::new(
            ErrorKind::Parameter,
            format!("the job can't be written as JSON: {error}"),
        )
    })
}

/// With one's answer: which job it is.
macro_rules! enqueue {
    ($on:expr, $row:expr, $how:ident, $kind:expr, $api_key:expr) => {{
        let row = $row;
        let api_key = $api_key.map(|key| *key.as_uuid());
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
                    &api_key,
                ],
            )
            .await?;
        JobId::from_uuid(found.get(0)?)
    }};
}

impl Transaction {
    /// Enqueues a job that appears when this transaction commits, and never if it does not. It travels with the next statement or
    /// with the commit: one more statement, and no round trip.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query); [`ErrorKind::ReadOnlyRole`] for a viewer; [`ErrorKind::PlanLimit`] where the tenant has as many as its
    /// plan gives. What the database says against it is told by the
    /// statement or the commit that it travels with.
    ///
    /// # Cancel safety
    ///
    /// As [`query`](Self::query).
    pub async fn enqueue<J: Job>(&mut self, job: &J) -> Result<JobId, Error> {
        self.enqueue_with(job, Enqueue::new()).await
    }

    /// The same with a delay, a priority, a unique key. One with a unique key takes a round trip, for its answer: an earlier job's
    /// id, where there is one.
    ///
    /// # Errors
    ///
    /// As [`enqueue`](Self::enqueue).
    ///
    /// # Cancel safety
    ///
    /// As [`query`](Self::query).
    pub async fn enqueue_with<J: Job>(&mut self, job: &J, how: Enqueue) -> Result<JobId, Error> {
        may_enqueue(self.role())?;
        has_room(self.grant())?;
        let row = Row::of(job, &how)?;
        let id = if how.unique_key.is_some() {
            enqueue!(self, row, how, J::KIND, self.api_key())
        } else {
            let Row { id, payload, delay_s } = row;
            let call = Ahead::enqueue(id.as_bytes(), J::KIND, payload, delay_s, how.priority, how.attempts_max);
            let call = match self.api_key() {
                Some(key) => call.by_api_key(key.as_uuid().as_bytes()),
                None => call,
            };
            self.put_ahead(call).await?;
            JobId::from_uuid(id)
        };
        self.enqueued();
        Ok(id)
    }
}

impl Scope {
    /// Enqueues a job by itself.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query); [`ErrorKind::ReadOnlyRole`] for a viewer; [`ErrorKind::PlanLimit`] where the tenant has as many as its
    /// plan gives.
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
        has_room(&*self.pools().grant(self.caller()).await?)?;
        let id = enqueue!(self, Row::of(job, &how)?, how, J::KIND, self.context().api_key());
        self.wake_workers();
        Ok(id)
    }

    /// Tells the workers of this process that a job was enqueued.
    pub(crate) fn wake_workers(&self) {
        if let Some(database) = self.pools().database_of(self.caller()) {
            self.tenantry().inner.job_wakes.wake(database);
        }
    }
}
