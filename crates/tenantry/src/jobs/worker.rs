//! A worker: takes jobs of every tenant, some at a time, until it is stopped.

use std::{
    collections::HashMap,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use tenantry_core::{TenantDatabaseId, TenantId};
use tokio::{
    task::{AbortHandle, Id, JoinError, JoinSet},
    time::{MissedTickBehavior, interval, sleep_until, timeout},
};
use uuid::Uuid;

use super::{
    Failure, Job, Run,
    attempt::{Attempts, Ended},
    claim::{Claimed, Source, Wish},
    handler::Handlers,
};
use crate::Tenantry;

/// How often databases are looked for that have come or gone.
const REFRESH: Duration = Duration::from_secs(10);

/// Takes jobs of every tenant, by turns among tenants, and hands them to handlers. [`run`](Self::run) works until it is told
/// to stop; any number of workers share the jobs, in one process or in many.
#[must_use = "a worker does nothing before `run`"]
pub struct Worker {
    tenantry: Tenantry,
    handlers: Handlers,
    concurrency: usize,
    lease: Duration,
    timeout: Duration,
    grace: Duration,
    poll_min: Duration,
    poll_max: Duration,
    tenant_max: Option<i32>,
}

/// What a worker did.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub struct WorkerReport {
    /// Jobs that are over.
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

    /// How many jobs at a time, at least one. Each takes a connection of its tenant's pool while it queries.
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
    /// A database that can't be reached is tried again; its jobs wait, others' don't.
    ///
    /// # Cancel safety
    ///
    /// Dropped, running handlers are dropped too: what they did in a transaction is undone, and their jobs go to another
    /// worker when the leases end.
    pub async fn run(self, stop: impl Future<Output = ()>) -> WorkerReport {
        let mut stop = pin!(stop);
        let mut shift = Shift::new(self);
        let mut beats = interval(shift.worker.lease / 3);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let wakes = shift.worker.tenantry.inner.job_wakes.clone();
        loop {
            shift.refresh().await;
            shift.take().await;
            let next = shift.next_look();
            let free = shift.free() > 0;
            tokio::select! {
                () = &mut stop => break,
                Some(ended) = shift.running.join_next_with_id() => shift.ended(ended),
                _ = beats.tick() => shift.beat().await,
                () = wakes.enqueued(), if free => shift.look_at(&wakes.take()),
                () = sleep_until(next.into()), if free => {}
            }
        }
        shift.stop(beats).await
    }
}

/// A tenant database that is watched.
struct Watched {
    source: Arc<Source>,
    /// Whose turn was last.
    after: TenantId,
    /// When it is asked next.
    look: Instant,
    /// How long it is left alone when there was nothing.
    pause: Duration,
}

/// A worker at work.
struct Shift {
    worker: Worker,
    attempts: Attempts,
    name: String,
    kinds: Vec<&'static str>,
    watched: Vec<Watched>,
    refresh: Instant,
    /// Where the next round of asking begins: databases take turns too.
    first: usize,
    running: JoinSet<Ended>,
    held: HashMap<Id, (Arc<Source>, Claimed, AbortHandle)>,
    report: WorkerReport,
}

impl Shift {
    fn new(worker: Worker) -> Self {
        Self {
            attempts: Attempts {
                tenantry: worker.tenantry.clone(),
                handlers: worker.handlers.clone(),
                timeout: worker.timeout,
            },
            name: format!("{} {}", std::process::id(), Uuid::now_v7().simple()),
            kinds: worker.handlers.kinds(),
            watched: Vec::new(),
            refresh: Instant::now(),
            first: 0,
            running: JoinSet::new(),
            held: HashMap::new(),
            report: WorkerReport::default(),
            worker,
        }
    }

    fn free(&self) -> usize {
        self.worker.concurrency.saturating_sub(self.running.len())
    }

    fn next_look(&self) -> Instant {
        let looks = self.watched.iter().map(|watched| watched.look);
        looks.chain([self.refresh]).min().unwrap_or(self.refresh)
    }

    /// Which databases there are.
    async fn refresh(&mut self) {
        if Instant::now() < self.refresh {
            return;
        }
        self.refresh = Instant::now() + REFRESH;
        let pools = self.worker.tenantry.pools();
        let found = match pools.one_tenant_of_each().await {
            Ok(found) => found,
            Err(error) => return tracing::warn!(error = %error, "a worker can't learn which databases there are"),
        };
        let mut known: HashMap<TenantDatabaseId, Watched> = self
            .watched
            .drain(..)
            .map(|watched| (watched.source.database, watched))
            .collect();
        for (database, tenant) in found {
            let source = Arc::new(Source::new(pools.clone(), database, tenant));
            let watched = match known.remove(&database) {
                // By another tenant, should the one from before be gone.
                Some(watched) => Watched { source, ..watched },
                None => Watched {
                    source,
                    after: TenantId::from_uuid(Uuid::nil()),
                    look: Instant::now(),
                    pause: self.worker.poll_min,
                },
            };
            self.watched.push(watched);
        }
    }

    /// Takes as many jobs as there is room for, from the databases whose time has come.
    async fn take(&mut self) {
        let databases = self.watched.len();
        for step in 0..databases {
            let free = self.free();
            if free == 0 {
                return;
            }
            let place = (self.first + step) % databases;
            if self.watched[place].look > Instant::now() {
                continue;
            }
            // Whoever comes next begins with the next database.
            let claimed = self.ask(place, free).await;
            let source = self.watched[place].source.clone();
            for job in claimed {
                self.begin(&source, job);
            }
        }
        self.first = (self.first + 1) % databases.max(1);
    }

    async fn ask(&mut self, place: usize, count: usize) -> Vec<Claimed> {
        let (min, max) = (self.worker.poll_min, self.worker.poll_max);
        let watched = &mut self.watched[place];
        let wish = Wish {
            worker: &self.name,
            kinds: &self.kinds,
            after: watched.after,
            count,
            lease: self.worker.lease,
            tenant_max: self.worker.tenant_max,
        };
        let claimed = watched.source.claim(&wish).await.unwrap_or_else(|error| {
            tracing::warn!(error = %error, database = %watched.source.database, "a worker can't ask a database for jobs");
            Vec::new()
        });
        if let Some(last) = claimed.last() {
            watched.after = last.tenant;
        }
        watched.pause = if claimed.is_empty() {
            (watched.pause * 2).min(max)
        } else {
            min
        };
        watched.look = match claimed.len() {
            // There may be more.
            full if full == count => Instant::now(),
            _ => Instant::now() + watched.pause,
        };
        claimed
    }

    fn begin(&mut self, source: &Arc<Source>, job: Claimed) {
        let attempt = self.attempts.clone().run(source.clone(), job.clone());
        let handle = self.running.spawn(attempt);
        self.held.insert(handle.id(), (source.clone(), job, handle));
    }

    /// One attempt has ended, and maybe others meanwhile.
    fn ended(&mut self, ended: Result<(Id, Ended), JoinError>) {
        self.count(ended);
        while let Some(ended) = self.running.try_join_next_with_id() {
            self.count(ended);
        }
    }

    fn count(&mut self, ended: Result<(Id, Ended), JoinError>) {
        let (id, ended) = match ended {
            Ok((id, ended)) => (id, ended),
            // Stopped from here because it was lost.
            Err(error) => (error.id(), Ended::Lost),
        };
        self.held.remove(&id);
        match ended {
            Ended::Done => self.report.done += 1,
            Ended::Failed => self.report.failed += 1,
            Ended::GivenBack => self.report.given_back += 1,
            Ended::Lost => self.report.lost += 1,
        }
    }

    fn look_at(&mut self, databases: &[TenantDatabaseId]) {
        for watched in &mut self.watched {
            if databases.contains(&watched.source.database) {
                watched.look = Instant::now();
            }
        }
    }

    /// What is held, by database.
    fn held(&self) -> Vec<(Arc<Source>, Vec<Claimed>)> {
        let mut by_database: HashMap<TenantDatabaseId, (Arc<Source>, Vec<Claimed>)> = HashMap::new();
        for (source, job, _) in self.held.values() {
            let entry = by_database
                .entry(job.database)
                .or_insert_with(|| (source.clone(), Vec::new()));
            entry.1.push(job.clone());
        }
        by_database.into_values().collect()
    }

    /// Keeps the leases; stops what was lost.
    async fn beat(&mut self) {
        for (source, jobs) in self.held() {
            // No longer than until the next beat: one database that hangs must not cost the others' leases.
            let beat = timeout(self.worker.lease / 6, source.beat(&jobs, self.worker.lease));
            match beat.await {
                Ok(Ok(lost)) => {
                    let gone = self.held.values().filter(|(_, job, _)| lost.contains(&job.id));
                    gone.for_each(|(_, _, handle)| handle.abort());
                }
                Ok(Err(error)) => {
                    tracing::warn!(error = %error, database = %source.database, "the leases of jobs can't be kept");
                }
                Err(_) => tracing::warn!(database = %source.database, "the leases of jobs can't be kept in time"),
            }
        }
    }

    /// Lets what runs come to its end, for a while, and gives the rest back.
    async fn stop(mut self, mut beats: tokio::time::Interval) -> WorkerReport {
        let end = Instant::now() + self.worker.grace;
        while !self.running.is_empty() {
            tokio::select! {
                Some(ended) = self.running.join_next_with_id() => self.ended(ended),
                _ = beats.tick() => self.beat().await,
                () = sleep_until(end.into()) => break,
            }
        }
        let left = self.held();
        self.running.shutdown().await;
        for (source, jobs) in left {
            match source.release(&jobs, Duration::ZERO).await {
                Ok(()) => self.report.given_back += jobs.len() as u64,
                // Their leases end.
                Err(error) => tracing::warn!(error = %error, "jobs can't be given back"),
            }
        }
        self.report
    }
}
