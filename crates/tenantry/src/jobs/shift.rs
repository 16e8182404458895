//! A worker at work: asks databases for jobs, begins what comes, keeps the leases, and stops in order.

use std::{
    collections::{HashMap, VecDeque},
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use tenantry_core::TenantDatabaseId;
use tokio::{
    sync::watch,
    task::{AbortHandle, Id, JoinError, JoinSet},
    time::{MissedTickBehavior, interval, sleep_until, timeout},
};
use uuid::Uuid;

use super::{
    Worker, WorkerReport,
    attempt::{Attempts, Ended},
    claim::{Claimed, Source, Turn, Wish},
    clock::Clock,
    counts,
};

/// How often databases are looked for that have come or gone.
const REFRESH: Duration = Duration::from_secs(10);
/// Jobs that take no longer, as a rule, are asked for ahead: while one batch is worked on, the next is on its way.
const SHORT: Duration = Duration::from_millis(10);
/// What was asked for ahead and waited longer goes back: another worker may have a hand free.
const AHEAD_WAIT: Duration = Duration::from_millis(50);
/// No more ahead than this.
const AHEAD_MAX: usize = 64;

/// A tenant database that is watched.
struct Watched {
    source: Arc<Source>,
    turn: Turn,
    /// When it is asked next.
    look: Instant,
    /// How long it is left alone when there was nothing.
    pause: Duration,
    /// When it was last looked after what became due.
    tidied: Option<Instant>,
    /// An answer is on its way.
    asked: bool,
    /// Something was enqueued since it was asked.
    again: bool,
}

/// What a database answered.
struct Answer {
    database: TenantDatabaseId,
    source: Arc<Source>,
    wanted: usize,
    claimed: Vec<Claimed>,
}

/// A job that was taken and is not begun.
struct Ready {
    source: Arc<Source>,
    job: Claimed,
    since: Instant,
}

/// A job that runs.
struct Held {
    source: Arc<Source>,
    job: Claimed,
    task: AbortHandle,
    begun: Instant,
}

/// A worker at work.
pub(super) struct Shift {
    worker: Worker,
    attempts: Attempts,
    name: Arc<str>,
    kinds: Arc<[&'static str]>,
    watched: Vec<Watched>,
    refresh: Instant,
    /// The same databases, for the clock.
    sources: watch::Sender<Vec<Arc<Source>>>,
    /// Where the next round of asking begins: databases take turns too.
    first: usize,
    asking: JoinSet<Answer>,
    /// How many jobs may come with the answers that are on their way.
    wanted: usize,
    ready: VecDeque<Ready>,
    running: JoinSet<Ended>,
    held: HashMap<Id, Held>,
    /// How long an attempt takes, as a rule.
    usual: Option<Duration>,
    report: WorkerReport,
}

impl Shift {
    pub(super) fn new(worker: Worker) -> Self {
        Self {
            attempts: Attempts {
                tenantry: worker.tenantry.clone(),
                handlers: worker.handlers.clone(),
                timeout: worker.timeout,
            },
            name: format!("{} {}", std::process::id(), Uuid::now_v7().simple()).into(),
            kinds: worker.handlers.kinds().into(),
            watched: Vec::new(),
            refresh: Instant::now(),
            sources: watch::Sender::default(),
            first: 0,
            asking: JoinSet::new(),
            wanted: 0,
            ready: VecDeque::new(),
            running: JoinSet::new(),
            held: HashMap::new(),
            usual: None,
            report: WorkerReport::default(),
            worker,
        }
    }

    /// Until `stop` is ready.
    pub(super) async fn run(mut self, stop: impl Future<Output = ()>) -> WorkerReport {
        let mut stop = pin!(stop);
        let mut beats = interval(self.worker.lease / 3);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let wakes = self.worker.tenantry.inner.job_wakes.clone();
        // Ends with this future, however that ends.
        let mut clock = JoinSet::new();
        clock.spawn(self.clock());
        loop {
            self.refresh().await;
            self.give_back_late().await;
            self.ask();
            let next = self.next_look();
            let asks = self.asks();
            // Each arm takes what is ready by then, or leaves it for the next time.
            tokio::select! {
                () = &mut stop => break,
                Some(ended) = self.running.join_next_with_id() => self.ended(ended),
                Some(answer) = self.asking.join_next() => self.came(answer),
                _ = beats.tick() => self.beat().await,
                () = wakes.enqueued(), if asks => self.look_at(&wakes.take()),
                () = sleep_until(next.into()) => {}
            }
        }
        drop(clock);
        self.stop(beats).await
    }

    fn clock(&mut self) -> impl Future<Output = ()> + Send + use<> {
        let clock = Clock {
            everyone: std::mem::take(&mut self.worker.everyone).into(),
            kinds: self.kinds.to_vec(),
            wakes: self.worker.tenantry.inner.job_wakes.clone(),
        };
        clock.run(self.sources.subscribe())
    }

    /// How many jobs are taken beyond those that run. Half as many as run at a time: who comes new waits no longer for them than for one
    /// job. None where jobs take their time, and would wait here while another worker has a hand free.
    fn ahead(&self) -> usize {
        match self.usual {
            Some(usual) if usual < SHORT => (self.worker.concurrency / 2).min(AHEAD_MAX),
            _ => 0,
        }
    }

    /// For how many jobs there is room.
    fn room(&self) -> usize {
        let taken = self.running.len() + self.ready.len() + self.wanted;
        (self.worker.concurrency + self.ahead()).saturating_sub(taken)
    }

    /// Whether there is room for as many as are worth asking for.
    fn asks(&self) -> bool {
        self.room() >= self.ahead().max(1)
    }

    fn next_look(&self) -> Instant {
        let looks = self.watched.iter().filter(|watched| !watched.asked && self.asks());
        let late = self.ready.front().map(|ready| ready.since + AHEAD_WAIT);
        let looks = looks.map(|watched| watched.look).chain(late);
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
                    turn: Turn::first(),
                    look: Instant::now(),
                    pause: self.worker.poll_min,
                    tidied: None,
                    asked: false,
                    again: false,
                },
            };
            self.watched.push(watched);
        }
        let sources = self.watched.iter().map(|watched| watched.source.clone());
        self.sources.send_replace(sources.collect());
    }

    /// Asks for as many jobs as there is room for, the databases whose time has come.
    fn ask(&mut self) {
        let databases = self.watched.len();
        for step in 0..databases {
            if !self.asks() {
                // Whoever comes next begins with the next database.
                self.first = (self.first + step) % databases;
                return;
            }
            let place = (self.first + step) % databases;
            let watched = &self.watched[place];
            if watched.asked || watched.look > Instant::now() {
                continue;
            }
            // One that hangs must not have all the room.
            let room = self.room();
            let count = if databases > 1 { room.div_ceil(2) } else { room };
            self.ask_one(place, count);
        }
        self.first = (self.first + 1) % databases.max(1);
    }

    fn ask_one(&mut self, place: usize, count: usize) {
        let watched = &mut self.watched[place];
        // Where jobs come thick and fast, not with each claim.
        let tidy = watched
            .tidied
            .is_none_or(|tidied| tidied.elapsed() >= self.worker.poll_min);
        if tidy {
            watched.tidied = Some(Instant::now());
        }
        let wish = Wish {
            worker: self.name.clone(),
            kinds: self.kinds.clone(),
            turn: watched.turn,
            count,
            lease: self.worker.lease,
            tenant_max: self.worker.tenant_max,
            tidy,
        };
        (watched.asked, watched.again) = (true, false);
        self.wanted += count;
        let source = watched.source.clone();
        self.asking.spawn(async move {
            let claimed = source.claim(&wish).await.unwrap_or_else(|error| {
                tracing::warn!(error = %error, database = %source.database, "a worker can't ask a database for jobs");
                Vec::new()
            });
            Answer {
                database: source.database,
                source,
                wanted: count,
                claimed,
            }
        });
    }

    /// An answer has come, and maybe others meanwhile.
    fn came(&mut self, answer: Result<Answer, JoinError>) {
        self.take(answer);
        while let Some(answer) = self.asking.try_join_next() {
            self.take(answer);
        }
    }

    fn take(&mut self, answer: Result<Answer, JoinError>) {
        let answer = match answer {
            Ok(answer) => answer,
            // Nothing in it panics; should it all the same, its jobs come back when their leases end.
            Err(error) => return tracing::error!(error = %error, "a worker's question came to no end"),
        };
        self.wanted -= answer.wanted;
        let (min, max) = (self.worker.poll_min, self.worker.poll_max);
        if let Some(watched) = self
            .watched
            .iter_mut()
            .find(|watched| watched.source.database == answer.database)
        {
            watched.asked = false;
            for job in &answer.claimed {
                watched.turn.had(job);
            }
            watched.pause = if answer.claimed.is_empty() {
                (watched.pause * 2).min(max)
            } else {
                min
            };
            // There may be more.
            let more = answer.claimed.len() == answer.wanted || watched.again;
            watched.look = Instant::now() + if more { Duration::ZERO } else { watched.pause };
        }
        let since = Instant::now();
        for job in answer.claimed {
            let source = answer.source.clone();
            self.ready.push_back(Ready { source, job, since });
        }
        self.begin();
    }

    /// Begins what is ready, as far as there are hands free.
    fn begin(&mut self) {
        while self.running.len() < self.worker.concurrency {
            let Some(Ready { source, job, .. }) = self.ready.pop_front() else {
                return;
            };
            let attempt = self.attempts.clone().run(source.clone(), job.clone());
            let task = self.running.spawn(attempt);
            let held = Held {
                source,
                job,
                begun: Instant::now(),
                task: task.clone(),
            };
            self.held.insert(task.id(), held);
        }
    }

    /// Gives back what was taken ahead and can't be begun soon.
    async fn give_back_late(&mut self) {
        let late = self.ready.iter().filter(|ready| ready.since.elapsed() >= AHEAD_WAIT);
        let late = late.count();
        if late == 0 {
            return;
        }
        // Nobody knows how long those take that run now.
        self.usual = None;
        let late: Vec<Ready> = self.ready.drain(..late).collect();
        self.give_back(by_database(late.into_iter().map(|ready| (ready.source, ready.job))))
            .await;
    }

    async fn give_back(&mut self, jobs: Vec<(Arc<Source>, Vec<Claimed>)>) {
        for (source, jobs) in jobs.into_iter().filter(|(_, jobs)| !jobs.is_empty()) {
            match source.release(&jobs, Duration::ZERO).await {
                Ok(()) => self.report.given_back += jobs.len() as u64,
                // Their leases end.
                Err(error) => tracing::warn!(error = %error, "jobs can't be given back"),
            }
        }
    }

    /// One attempt has ended, and maybe others meanwhile.
    fn ended(&mut self, ended: Result<(Id, Ended), JoinError>) {
        self.count(ended);
        while let Some(ended) = self.running.try_join_next_with_id() {
            self.count(ended);
        }
        self.begin();
    }

    fn count(&mut self, ended: Result<(Id, Ended), JoinError>) {
        let (id, ended) = match ended {
            Ok((id, ended)) => (id, ended),
            // Stopped from here because it was lost.
            Err(error) => (error.id(), Ended::Lost),
        };
        if let Some(held) = self.held.remove(&id) {
            let took = held.begun.elapsed();
            self.usual = Some(self.usual.map_or(took, |usual| usual * 7 / 8 + took / 8));
        }
        counts::note(ended);
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
                watched.again = true;
            }
        }
    }

    /// What this worker has a lease of, by database.
    fn leased(&self) -> Vec<(Arc<Source>, Vec<Claimed>)> {
        let held = self.held.values().map(|held| (held.source.clone(), held.job.clone()));
        let ready = self.ready.iter().map(|ready| (ready.source.clone(), ready.job.clone()));
        by_database(held.chain(ready))
    }

    /// Keeps the leases; stops what was lost.
    async fn beat(&mut self) {
        for (source, jobs) in self.leased() {
            // No longer than until the next beat: one database that hangs must not cost the others' leases.
            let beat = timeout(self.worker.lease / 6, source.beat(&jobs, self.worker.lease));
            match beat.await {
                Ok(Ok(lost)) => {
                    let is_lost = |job: &Claimed| job.database == source.database && lost.contains(&job.id);
                    let gone = self.held.values().filter(|held| is_lost(&held.job));
                    gone.for_each(|held| held.task.abort());
                    self.ready.retain(|ready| !is_lost(&ready.job));
                }
                Ok(Err(error)) => {
                    tracing::warn!(error = %error, database = %source.database, "the leases of jobs can't be kept");
                }
                Err(_) => tracing::warn!(database = %source.database, "the leases of jobs can't be kept in time"),
            }
        }
    }

    /// Gives back what is not begun, lets what runs come to its end, for a while, and gives the rest back.
    async fn stop(mut self, mut beats: tokio::time::Interval) -> WorkerReport {
        let end = Instant::now() + self.worker.grace;
        // What is on its way would keep its lease for nobody.
        let ready: Vec<Ready> = self.ready.drain(..).collect();
        self.give_back(by_database(ready.into_iter().map(|ready| (ready.source, ready.job))))
            .await;
        while !self.asking.is_empty() {
            tokio::select! {
                Some(answer) = self.asking.join_next() => {
                    if let Ok(Answer { source, claimed, .. }) = answer {
                        self.give_back(vec![(source, claimed)]).await;
                    }
                }
                () = sleep_until(end.into()) => break,
            }
        }
        while !self.running.is_empty() {
            tokio::select! {
                Some(ended) = self.running.join_next_with_id() => self.ended(ended),
                _ = beats.tick() => self.beat().await,
                () = sleep_until(end.into()) => break,
            }
        }
        let left = self.leased();
        self.running.shutdown().await;
        self.give_back(left).await;
        self.report
    }
}

fn by_database(jobs: impl Iterator<Item = (Arc<Source>, Claimed)>) -> Vec<(Arc<Source>, Vec<Claimed>)> {
    let mut by_database: HashMap<TenantDatabaseId, (Arc<Source>, Vec<Claimed>)> = HashMap::new();
    for (source, job) in jobs {
        let entry = by_database.entry(job.database).or_insert_with(|| (source, Vec::new()));
        entry.1.push(job);
    }
    by_database.into_values().collect()
}
