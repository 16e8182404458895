//! A worker: takes jobs of every tenant, some at a time, until it is stopped.

use std::time::Duration;

use tenantry_core::Role;

use super::{Failure, Job, Run, Schedule, clock::Everyone, enqueue::to_json, handler::Handlers, shift::Shift};
use crate::{Error, Tenantry};

/// Takes jobs of every tenant, by turns among tenants, and hands them to handlers. [`run`](Self::run) works until it is told
/// to stop; any number of workers share the jobs, in one process or in many.
#[must_use = "a worker does nothing before `run`"]
pub struct Worker {
    pub(super) tenantry: Tenantry,
    pub(super) handlers: Handlers,
    pub(super) everyone: Vec<Everyone>,
    pub(super) concurrency: usize,
    pub(super) lease: Duration,
    pub(super) timeout: Duration,
    pub(super) grace: Duration,
    pub(super) poll_min: Duration,
    pub(super) poll_max: Duration,
    pub(super) tenant_max: Option<i32>,
}

/// What a worker did.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub struct WorkerReport {
    /// Jobs that are over, whatever their handlers did after that.
    pub done: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// Jobs that were given back without a fault of theirs: their tenant could not be served, or the worker stopped.
    pub given_back: u64,
    /// Jobs that another worker has by now.
    pub lost: u64,
}

impl Worker {
    /// A worker without handlers: eight jobs at a time.
    pub fn new(tenantry: &Tenantry) -> Self {
        Self {
            tenantry: tenantry.clone(),
            handlers: Handlers::default(),
            everyone: Vec::new(),
            concurrency: 8,
            lease: Duration::from_secs(30),
            timeout: Duration::from_secs(600),
            grace: Duration::from_secs(30),
            poll_min: Duration::from_millis(50),
            poll_max: Duration::from_secs(1),
            tenant_max: None,
        }
    }

    /// What to do with jobs of this kind. A later handler of the same kind takes the place of an earlier one.
    pub fn handle<J, F, O>(mut self, handler: F) -> Self
    where
        J: Job,
        F: Fn(Run, J) -> O + Send + Sync + 'static,
        O: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        self.handlers.add(handler);
        self
    }

    /// Makes this job for every tenant at each due time, also for tenants that come later: the name says which schedule it is when
    /// the program changes. It is the application's own, so its handler has an owner's rights and no account;
    /// [`Scope::at_most`](crate::Scope::at_most) takes rights away. Each tenant gets one job for each due time, whatever number of
    /// workers declare the same.
    ///
    /// A tenant that is suspended waits, and [`Schedule::missed`] says what becomes of the times in between. What is no longer
    /// declared makes no more jobs.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Parameter`](crate::ErrorKind::Parameter) where the job can't be written as JSON.
    pub fn every_tenant<J: Job>(mut self, name: &str, schedule: Schedule, job: &J) -> Result<Self, Error> {
        let payload = to_json(job)?;
        self.everyone.retain(|everyone| everyone.name != name);
        self.everyone.push(Everyone {
            name: name.to_owned(),
            schedule,
            kind: J::KIND,
            payload,
            role: Role::Owner,
        });
        Ok(self)
    }

    /// How many jobs at a time, at least one. Each takes a connection of its tenant's pool while it queries, and the worker's own calls
    /// take another one of the same: where as many handlers as [`connections_max`](crate::PoolConfig::connections_max) hold transactions
    /// open for longer than the lease, no beat gets through, and their jobs are begun elsewhere too.
    pub fn concurrency(mut self, jobs: usize) -> Self {
        self.concurrency = jobs.max(1);
        self
    }

    /// How many jobs of one tenant run at a time, over all workers that say so.
    pub fn per_tenant_max(mut self, jobs: u16) -> Self {
        self.tenant_max = Some(i32::from(jobs.max(1)));
        self
    }

    /// How long a job stays with a worker that is not heard of any more; beats come three times as often. At least a second.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease.max(Duration::from_secs(1));
        self
    }

    /// How long one attempt may take.
    pub fn job_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How long running jobs may go on once the worker is told to stop; what is left is given back.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// How often an idle database is asked: first after `min`, then ever less often up to `max`. A job that this process
    /// enqueues is seen at once.
    pub fn poll(mut self, min: Duration, max: Duration) -> Self {
        self.poll_min = min.max(Duration::from_millis(1));
        self.poll_max = max.max(self.poll_min);
        self
    }

    /// Works until `stop` is ready, then lets running jobs end.
    ///
    /// A database that can't be reached, or hangs, is tried again; its jobs wait, others' don't. While the catalog does not answer, the
    /// worker goes on with the databases that it knows.
    ///
    /// # Cancel safety
    ///
    /// Dropped, running handlers are dropped too: what they did in a transaction is undone, and their jobs go to another
    /// worker when the leases end.
    pub async fn run(self, stop: impl Future<Output = ()>) -> WorkerReport {
        Shift::new(self).run(stop).await
    }
}
