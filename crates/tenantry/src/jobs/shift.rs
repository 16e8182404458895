//! A worker at work: asks databases for jobs, begins what comes, keeps the leases, and stops in order.
//!
//! The loop waits for nobody: what goes to a database or to the catalog is a task of its own, with an end in time, so that one that
//! hangs stops neither the others' jobs nor the beats that keep their leases.

mod ask;
mod keep;
mod places;

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
    time::{MissedTickBehavior, interval, sleep_until},
};
use uuid::Uuid;

use super::{
    Worker, WorkerReport,
    attempt::{Attempts, Ended},
    claim::{Claimed, Source},
    clock::Clock,
    counts,
    over::Over,
};
use ask::{Answer, Asked, Watched};
use keep::Beaten;

/// A job that was taken and is not begun.
struct Ready {
    source: Arc<Source>,
    job: Arc<Claimed>,
    since: Instant,
}

/// A job that runs.
struct Held {
    source: Arc<Source>,
    job: Arc<Claimed>,
    task: AbortHandle,
    begun: Instant,
    over: Over,
}

/// A worker at work.
pub(super) struct Shift {
    worker: Worker,
    attempts: Arc<Attempts>,
    name: Arc<str>,
    kinds: Arc<[&'static str]>,
    watched: Vec<Watched>,
    refresh: Instant,
    /// The catalog's answer to which databases there are; none where it gave none.
    refreshing: JoinSet<Option<Vec<TenantDatabaseId>>>,
    /// The same databases, for the clock.
    sources: watch::Sender<Vec<Arc<Source>>>,
    /// Where the next round of asking begins: databases take turns too.
    first: usize,
    asking: JoinSet<Answer>,
    /// Whose answers are on their way.
    asked: HashMap<TenantDatabaseId, Asked>,
    /// For how many jobs room is kept that may come with the answers.
    wanted: usize,
    ready: VecDeque<Ready>,
    running: JoinSet<Ended>,
    held: HashMap<Id, Held>,
    beating: JoinSet<Beaten>,
    /// Each gives how many jobs were given back.
    releasing: JoinSet<usize>,
    /// How long an attempt takes, as a rule.
    usual: Option<Duration>,
    report: WorkerReport,
}

impl Shift {
    pub(super) fn new(worker: Worker) -> Self {
        Self {
            attempts: Arc::new(Attempts {
                tenantry: worker.tenantry.clone(),
                handlers: worker.handlers.clone(),
                timeout: worker.timeout,
            }),
            name: format!("{} {}", std::process::id(), Uuid::now_v7().simple()).into(),
            kinds: worker.handlers.kinds().into(),
            watched: Vec::new(),
            refresh: Instant::now(),
            refreshing: JoinSet::new(),
            sources: watch::Sender::default(),
            first: 0,
            asking: JoinSet::new(),
            asked: HashMap::new(),
            wanted: 0,
            ready: VecDeque::new(),
            running: JoinSet::new(),
            held: HashMap::new(),
            beating: JoinSet::new(),
            releasing: JoinSet::new(),
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
        let mut told = self.worker.tenantry.inner.job_wakes.listen();
        // Ends with this future, however that ends.
        let mut clock = JoinSet::new();
        clock.spawn(self.clock());
        loop {
            self.refresh();
            self.give_up_room();
            self.give_back_late();
            // Before anybody is asked: where one database always has more, there is room at this moment only.
            if self.asks() {
                self.look_at(&told.take());
            }
            self.ask();
            let next = self.next_look();
            let asks = self.asks();
            // Each arm takes what is ready by then, or leaves it for the next time.
            tokio::select! {
                () = &mut stop => break,
                Some(ended) = self.running.join_next_with_id() => self.ended(ended),
                Some(answer) = self.asking.join_next() => self.came(answer),
                Some(found) = self.refreshing.join_next() => self.found(found),
                Some(beaten) = self.beating.join_next() => self.beaten(beaten),
                Some(given_back) = self.releasing.join_next() => self.given_back(given_back),
                _ = beats.tick() => self.beat(),
                databases = told.enqueued(), if asks => self.look_at(&databases),
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

    /// Begins what is ready, as far as there are hands free.
    fn begin(&mut self) {
        while self.running.len() < self.worker.concurrency {
            let Some(Ready { source, job, .. }) = self.ready.pop_front() else {
                return;
            };
            let over = Over::default();
            let attempt = self.attempts.clone().run(source.clone(), job.clone(), over.clone());
            let task = self.running.spawn(attempt);
            let held = Held {
                source,
                job,
                begun: Instant::now(),
                task: task.clone(),
                over,
            };
            self.held.insert(task.id(), held);
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
            Ok((id, ended)) => (id, Some(ended)),
            Err(error) => (error.id(), None),
        };
        let held = self.held.remove(&id);
        let took = held.as_ref().map_or(Duration::ZERO, |held| held.begun.elapsed());
        if held.is_some() {
            self.usual = Some(self.usual.map_or(took, |usual| usual * 7 / 8 + took / 8));
        }
        // Stopped from here because it was lost, unless it was over by then all the same.
        let stopped = match held {
            Some(held) if held.over.is_done() => Ended::Done,
            _ => Ended::Lost,
        };
        self.note(ended.unwrap_or(stopped), took);
    }

    fn note(&mut self, ended: Ended, took: Duration) {
        counts::note(ended, took);
        match ended {
            Ended::Done => self.report.done += 1,
            Ended::Failed => self.report.failed += 1,
            Ended::GivenBack => self.report.given_back += 1,
            Ended::Lost => self.report.lost += 1,
        }
    }

    /// Gives back what is not begun, lets what runs come to its end, for a while, and gives the rest back.
    async fn stop(mut self, mut beats: tokio::time::Interval) -> WorkerReport {
        let end = Instant::now() + self.worker.grace;
        let ready = std::mem::take(&mut self.ready);
        self.give_back(ready.into_iter().map(|ready| (ready.source, ready.job)));
        // What is on its way would keep its lease for nobody.
        while !(self.asking.is_empty() && self.running.is_empty()) {
            tokio::select! {
                Some(answer) = self.asking.join_next() => self.came_too_late(answer),
                Some(ended) = self.running.join_next_with_id() => self.ended(ended),
                Some(beaten) = self.beating.join_next() => self.beaten(beaten),
                Some(given_back) = self.releasing.join_next() => self.given_back(given_back),
                _ = beats.tick() => self.beat(),
                () = sleep_until(end.into()) => break,
            }
        }
        self.cut_off().await;
        while let Some(given_back) = self.releasing.join_next().await {
            self.given_back(given_back);
        }
        self.report
    }

    /// Stops what still runs. Its jobs are given back, but for those that are over, whatever their handlers went on with.
    async fn cut_off(&mut self) {
        self.running.abort_all();
        let mut left = Vec::new();
        while let Some(ended) = self.running.join_next_with_id().await {
            match ended {
                Err(error) if error.is_cancelled() => match self.held.remove(&error.id()) {
                    Some(held) if held.over.is_done() => self.note(Ended::Done, held.begun.elapsed()),
                    Some(held) => left.push((held.source, held.job)),
                    None => {}
                },
                ended => self.count(ended),
            }
        }
        self.give_back(left.into_iter());
    }
}
