//! Which databases there are, and asking them for jobs: each gets what room there is, and none that hangs keeps it from the others.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use tenantry_core::TenantDatabaseId;
use tokio::{task::JoinError, time::timeout};

use super::{Ready, Shift, places::Places};
use crate::jobs::claim::{Claimed, Source, Turn, Wish};

/// How often databases are looked for that have come or gone.
const REFRESH: Duration = Duration::from_secs(10);
/// How long the catalog has to name them; those that are known stay.
const CATALOG: Duration = Duration::from_secs(5);
/// What was asked for ahead and waited longer goes back: another worker may have a hand free.
const AHEAD_WAIT: Duration = Duration::from_millis(50);
/// How long room is kept for what a database may answer: a hundred times what a claim takes. What comes later goes back, should there
/// be no hand free for it by then.
const SLOW: Duration = Duration::from_millis(500);
/// How many times longer than an idle one a database is left alone at most that fails to answer: its jobs wait as long once it is back.
const FAILED: u32 = 5;

/// A tenant database that is watched.
pub(super) struct Watched {
    source: Arc<Source>,
    turn: Turn,
    /// When it is asked next.
    look: Instant,
    /// How long it is left alone when there was nothing.
    pause: Duration,
    /// When it was last looked after what became due.
    tidied: Option<Instant>,
    /// Something was enqueued since it was asked.
    again: bool,
    /// It did not answer the last time, or not soon: it is asked for one job.
    trouble: bool,
}

/// A question whose answer is on its way.
pub(super) struct Asked {
    wanted: usize,
    since: Instant,
    /// Room is kept for what it may bring.
    has_room: bool,
}

/// What a database answered.
pub(super) struct Answer {
    database: TenantDatabaseId,
    source: Arc<Source>,
    /// `None` where it failed.
    claimed: Option<Vec<Arc<Claimed>>>,
}

impl Shift {
    fn places(&self) -> Places {
        let taken = self.running.len() + self.ready.len() + self.wanted;
        Places::new(self.worker.concurrency, self.usual, taken)
    }

    /// Whether there is room for as many as are worth asking for.
    pub(super) fn asks(&self) -> bool {
        self.places().are_worth_asking()
    }

    pub(super) fn next_look(&self) -> Instant {
        let asks = self.asks();
        let looks = self
            .watched
            .iter()
            .filter(|watched| asks && !self.asked.contains_key(&watched.source.database))
            .map(|watched| watched.look);
        let slow = self
            .asked
            .values()
            .filter(|asked| asked.has_room)
            .map(|asked| asked.since + SLOW);
        let late = self.ready.front().map(|ready| ready.since + AHEAD_WAIT);
        looks
            .chain(slow)
            .chain(late)
            .chain([self.refresh])
            .min()
            .unwrap_or(self.refresh)
    }

    /// Has the catalog asked which databases there are, where it is time to.
    pub(super) fn refresh(&mut self) {
        if Instant::now() < self.refresh {
            return;
        }
        self.refresh = Instant::now() + REFRESH;
        let pools = self.worker.tenantry.pools().clone();
        self.refreshing.spawn(async move {
            match timeout(CATALOG, pools.served_databases()).await {
                Ok(Ok(found)) => Some(found),
                Ok(Err(error)) => {
                    tracing::warn!(error = %error, "a worker can't learn which databases there are");
                    None
                }
                Err(_) => {
                    tracing::warn!("a worker can't learn in time which databases there are");
                    None
                }
            }
        });
    }

    /// The catalog has told which databases there are.
    pub(super) fn found(&mut self, found: Result<Option<Vec<TenantDatabaseId>>, JoinError>) {
        // Else it goes on with those that it knows.
        let Ok(Some(found)) = found else { return };
        let pools = self.worker.tenantry.pools();
        let mut known: HashMap<TenantDatabaseId, Watched> = self
            .watched
            .drain(..)
            .map(|watched| (watched.source.database, watched))
            .collect();
        for database in found {
            let watched = known.remove(&database).unwrap_or_else(|| Watched {
                source: Arc::new(Source::new(pools.clone(), database)),
                turn: Turn::first(),
                look: Instant::now(),
                pause: self.worker.poll_min,
                tidied: None,
                again: false,
                trouble: false,
            });
            self.watched.push(watched);
        }
        let sources = self.watched.iter().map(|watched| watched.source.clone());
        self.sources.send_replace(sources.collect());
    }

    /// Keeps no room any longer for what a database may answer that is slow to: others have jobs too.
    pub(super) fn give_up_room(&mut self) {
        for asked in self.asked.values_mut() {
            if asked.has_room && asked.since.elapsed() >= SLOW {
                asked.has_room = false;
                self.wanted -= asked.wanted;
            }
        }
    }

    /// Asks for as many jobs as there is room for, the databases whose time has come.
    pub(super) fn ask(&mut self) {
        let databases = self.watched.len();
        for step in 0..databases {
            if !self.asks() {
                // Whoever comes next begins with the next database.
                self.first = (self.first + step) % databases;
                return;
            }
            let place = (self.first + step) % databases;
            let watched = &self.watched[place];
            if self.asked.contains_key(&watched.source.database) || watched.look > Instant::now() {
                continue;
            }
            let room = self.places().room();
            let count = match (databases, watched.trouble) {
                (1, _) => room,
                // One that hangs must not have all the room, and one that hung before next to none.
                (_, false) => room.div_ceil(2),
                (_, true) => 1,
            };
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
        watched.again = false;
        let source = watched.source.clone();
        let asked = Asked {
            wanted: count,
            since: Instant::now(),
            has_room: true,
        };
        self.asked.insert(source.database, asked);
        self.wanted += count;
        self.asking.spawn(async move {
            let claimed = source.claim(&wish).await;
            Answer {
                database: source.database,
                claimed: claimed
                    .inspect_err(|error| {
                        tracing::warn!(error = %error, database = %source.database, "a worker can't ask a database for jobs");
                    })
                    .ok(),
                source,
            }
        });
    }

    /// An answer has come, and maybe others meanwhile.
    pub(super) fn came(&mut self, answer: Result<Answer, JoinError>) {
        self.take(answer);
        while let Some(answer) = self.asking.try_join_next() {
            self.take(answer);
        }
        self.begin();
    }

    /// An answer has come to a worker that begins nothing any more.
    pub(super) fn came_too_late(&mut self, answer: Result<Answer, JoinError>) {
        let Ok(Answer { source, claimed, .. }) = answer else {
            return;
        };
        let claimed = claimed.unwrap_or_default();
        self.give_back(claimed.into_iter().map(|job| (source.clone(), job)));
    }

    fn take(&mut self, answer: Result<Answer, JoinError>) {
        let answer = match answer {
            Ok(answer) => answer,
            // Nothing in it panics; should it all the same, its jobs come back when their leases end.
            Err(error) => return tracing::error!(error = %error, "a worker's question came to no end"),
        };
        let Some(asked) = self.asked.remove(&answer.database) else {
            return;
        };
        if asked.has_room {
            self.wanted -= asked.wanted;
        }
        let failed = answer.claimed.is_none();
        let claimed = answer.claimed.unwrap_or_default();
        if let Some(watched) = self
            .watched
            .iter_mut()
            .find(|watched| watched.source.database == answer.database)
        {
            for job in &claimed {
                watched.turn.had(job);
            }
            watched.trouble = failed || !asked.has_room;
            let max = self.worker.poll_max * if failed { FAILED } else { 1 };
            watched.pause = if claimed.is_empty() {
                (watched.pause * 2).min(max)
            } else {
                self.worker.poll_min
            };
            // There may be more.
            let more = !failed && (claimed.len() == asked.wanted || watched.again);
            watched.look = Instant::now() + if more { Duration::ZERO } else { watched.pause };
        }
        let since = Instant::now();
        for job in claimed {
            let source = answer.source.clone();
            self.ready.push_back(Ready { source, job, since });
        }
    }

    /// Gives back what was taken ahead and can't be begun soon.
    pub(super) fn give_back_late(&mut self) {
        let late = self.ready.iter().filter(|ready| ready.since.elapsed() >= AHEAD_WAIT);
        let late = late.count();
        if late == 0 {
            return;
        }
        // Nobody knows how long those take that run now.
        self.usual = None;
        let late: Vec<Ready> = self.ready.drain(..late).collect();
        self.give_back(late.into_iter().map(|ready| (ready.source, ready.job)));
    }

    pub(super) fn look_at(&mut self, databases: &[TenantDatabaseId]) {
        for watched in &mut self.watched {
            if databases.contains(&watched.source.database) {
                watched.look = Instant::now();
                watched.again = true;
            }
        }
    }
}
