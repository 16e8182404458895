//! How far the replicas of a server are, found out beside the calls.
//!
//! While somebody reads there, the primary is asked now and then where its log ends, and then each replica how far it has
//! replayed. A replica that is past where the log ended at some moment shows everything that was committed before that moment. So
//! a call needs no question of its own: it looks for a replica that is known to be new enough, and goes to the primary
//! where there is none.

use std::{
    collections::VecDeque,
    pin::pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use futures_util::future::join_all;
use parking_lot::Mutex;
use tenantry_core::{ServerId, TenantId, end_of_log, seal::Place};

use crate::{
    Caller, Error, Pools,
    database::DatabasePool,
    placements::Located,
    pools::Shared,
    replica::{Branch, Reached, ReplicaStatus, Standby},
};

/// How long a question may take. A server that needs longer for it is not known to be near.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// A replica that gives no answer is asked this often at least.
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// So long after the last read nobody is asked any more.
const WANTED_FOR: Duration = Duration::from_secs(5);
/// How many moments are remembered. A replica that is further behind is known again once it has caught up.
const SAMPLES_MAX: usize = 256;

const QUESTION: &str = "select standby, reached from tenantry.log_position($1, $2)";

/// The log ended there at that moment, or before.
#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Instant,
    position: u64,
}

/// What is found out of the replicas of one server.
pub(crate) struct Watch {
    standbys: Mutex<Vec<Arc<Standby>>>,
    /// Grows when another list of replicas is known.
    lists: AtomicU64,
    /// Oldest first.
    samples: Mutex<VecDeque<Sample>>,
    made: Instant,
    /// Milliseconds after `made`.
    wanted_ms: AtomicU64,
    running: AtomicBool,
}

/// Which replicas are listed.
pub(crate) struct Listed {
    /// Which list it is.
    pub(crate) list: u64,
    pub(crate) standbys: Vec<Arc<Standby>>,
    /// Those that were listed before.
    pub(crate) gone: Vec<ServerId>,
}

impl Watch {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            standbys: Mutex::default(),
            lists: AtomicU64::new(0),
            samples: Mutex::default(),
            made: Instant::now(),
            wanted_ms: AtomicU64::new(0),
            running: AtomicBool::new(false),
        })
    }

    /// Takes down which replicas are listed now; what is known of them stays known.
    pub(crate) fn list(&self, ids: &[ServerId]) -> Listed {
        let mut standbys = self.standbys.lock();
        let gone = standbys.iter().map(|standby| standby.id).filter(|id| !ids.contains(id));
        let gone: Vec<_> = gone.collect();
        standbys.retain(|standby| ids.contains(&standby.id));
        if !gone.is_empty() || standbys.len() < ids.len() {
            self.lists.fetch_add(1, Ordering::AcqRel);
        }
        let list = self.lists.load(Ordering::Acquire);
        for id in ids {
            if !standbys.iter().any(|standby| standby.id == *id) {
                standbys.push(Standby::new(*id));
            }
        }
        Listed {
            list,
            standbys: standbys.clone(),
            gone,
        }
    }

    pub(crate) fn status(&self, staleness_max: Duration) -> Vec<ReplicaStatus> {
        let asked = self.running.load(Ordering::Relaxed);
        let standbys = self.standbys.lock();
        standbys
            .iter()
            .map(|standby| standby.status(asked, staleness_max))
            .collect()
    }

    /// Somebody reads: from here on it is found out how far the replicas are.
    pub(crate) fn wake(self: &Arc<Self>, shared: &Arc<Shared>, located: &Arc<Located>) {
        let now = u64::try_from(self.made.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.wanted_ms.store(now, Ordering::Relaxed);
        if self.running.load(Ordering::Relaxed) || self.running.swap(true, Ordering::AcqRel) {
            return;
        }
        let (shared, located) = (Arc::downgrade(shared), located.clone());
        tokio::spawn(run(Running(self.clone()), shared, located));
    }

    fn is_wanted(&self) -> bool {
        let wanted = Duration::from_millis(self.wanted_ms.load(Ordering::Relaxed));
        self.made.elapsed().saturating_sub(wanted) < WANTED_FOR
    }

    fn note(&self, sample: Sample) {
        let mut samples = self.samples.lock();
        samples.push_back(sample);
        if samples.len() > SAMPLES_MAX {
            samples.pop_front();
        }
    }

    /// The last moment before which everything was committed that stands before this position.
    fn moment_of(&self, position: u64) -> Option<Instant> {
        let samples = self.samples.lock();
        let newest = samples.iter().rev().find(|sample| sample.position <= position);
        newest.map(|sample| sample.at)
    }

    /// The primary gives no answer, or another one may answer next.
    fn forget(&self) {
        self.samples.lock().clear();
    }
}

/// Another task may be started when this one ends, however it does.
struct Running(Arc<Watch>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.store(false, Ordering::Release);
    }
}

async fn run(running: Running, shared: Weak<Shared>, located: Arc<Located>) {
    let ask = Ask {
        watch: &running.0,
        shared,
        caller: Caller::of_nobody(),
        located: &located,
        over: AtomicBool::new(false),
    };
    // Each by itself: one that gives no answer must not make the others look old.
    let replicas = located.replicas.all.iter().map(|branch| ask.replica(branch));
    tokio::join!(ask.primary(), join_all(replicas));
}

/// Who is asked, and how long.
struct Ask<'a> {
    watch: &'a Watch,
    shared: Weak<Shared>,
    caller: Caller,
    located: &'a Located,
    over: AtomicBool,
}

impl Ask<'_> {
    /// The pools, as long as anybody holds them and reads; not to be held while waiting.
    fn pools(&self) -> Option<Pools> {
        let is_listed = self.located.replicas.list == self.watch.lists.load(Ordering::Acquire);
        let goes_on = is_listed && self.watch.is_wanted() && !self.over.load(Ordering::Relaxed);
        self.shared.upgrade().filter(|_| goes_on).map(Pools::of)
    }

    /// Notes now and then where the primary's log ends.
    async fn primary(&self) {
        while let Some(pools) = self.pools() {
            let every = pools.config().replica_poll;
            let at = Instant::now();
            let answer = pools.log_position(self.located, &self.located.pool, &self.caller).await;
            drop(pools);
            match answer {
                Ok(Answer {
                    position,
                    standby: false,
                    ..
                }) => self.watch.note(Sample { at, position }),
                answer => {
                    self.watch.forget();
                    match answer {
                        Ok(_) => tracing::warn!(
                            "a server with replicas is itself a standby: nothing is read from its replicas"
                        ),
                        Err(error) => {
                            tracing::warn!(%error, "a server with replicas does not say how far it is: reads go to itself");
                        }
                    }
                    // The next read begins anew, maybe at another address.
                    self.over.store(true, Ordering::Relaxed);
                }
            }
            pause(at, every).await;
        }
    }

    /// Notes now and then how far a replica is; less often while it gives no answer.
    async fn replica(&self, branch: &Branch) {
        let standby = &branch.standby;
        let mut failures = 0;
        while let Some(pools) = self.pools() {
            let every = pools.config().replica_poll;
            let at = Instant::now();
            let answer = pools.log_position(self.located, &branch.pool, &self.caller).await;
            drop(pools);
            let reached = match answer {
                Ok(answer) if answer.standby => {
                    failures = 0;
                    self.reached(standby.reached(), &answer)
                }
                Ok(_) => {
                    if failures == 0 {
                        tracing::error!(replica = %standby.id, "a replica was promoted: nothing is read from it");
                    }
                    failures += 1;
                    None
                }
                // It is there and busy. What is known of it is so still, and only gets older.
                Err(Error::WaitTimeout(_) | Error::TenantBusy(_) | Error::Full(_) | Error::StatementTimeout(_)) => {
                    standby.reached()
                }
                Err(error) => {
                    if failures == 0 {
                        tracing::warn!(replica = %standby.id, %error, "a replica gives no answer: reads go to its primary");
                    }
                    failures += 1;
                    None
                }
            };
            standby.note(reached);
            let every = (every * 2_u32.saturating_pow(failures)).min(every.max(PAUSE_MAX));
            pause(at, every).await;
        }
    }

    fn reached(&self, before: Option<Reached>, answer: &Answer) -> Option<Reached> {
        let before = before
            .filter(|before| before.place == answer.place)
            .map(|before| before.fresh_at);
        let fresh_at = before.max(self.watch.moment_of(answer.position))?;
        Some(Reached {
            fresh_at,
            position: answer.position,
            place: answer.place,
        })
    }
}

async fn pause(since: Instant, every: Duration) {
    let rest = every.saturating_sub(since.elapsed());
    tokio::time::sleep(rest.max(Duration::from_millis(1))).await;
}

/// What a server says of its log.
struct Answer {
    standby: bool,
    position: u64,
    place: Place,
}

impl Pools {
    /// Where the log of the tenant's server ends, as a text that tells nobody else: what is written by now stands before it.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query).
    ///
    /// # Cancel safety
    ///
    /// Nothing is changed by it.
    pub async fn bookmark(
        &self,
        caller: &Caller,
        nonce: [u8; 8],
    ) -> Result<[u8; tenantry_core::seal::POSITION_LEN], Error> {
        let located = self.locate(caller).await?;
        // Behind a pooler nobody can ask, and there are no replicas: no replica is ever that far.
        let position = match located.pool.require_sessions() {
            Ok(()) => self.log_position(&located, &located.pool, caller).await?.position,
            Err(_) => u64::MAX,
        };
        Ok(located.home.key.seal_position(position, nonce))
    }

    async fn log_position(
        &self,
        located: &Located,
        pool: &Arc<DatabasePool>,
        caller: &Caller,
    ) -> Result<Answer, Error> {
        pool.require_sessions()?;
        let mut lease = match tokio::time::timeout(ANSWER_TIMEOUT, pool.lease(&located.binding(caller))).await {
            Ok(lease) => lease?,
            Err(_) => return Err(Error::WaitTimeout(ANSWER_TIMEOUT)),
        };
        let place = lease.place();
        let answered = {
            let (session, timer) = lease.parts();
            let connection = session.connection();
            let now_us = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |now| i64::try_from(now.as_micros()).unwrap_or(i64::MAX));
            let signed = located.home.key.sign_worker_at(connection.process_id(), now_us, place);
            let (message, mac) = (signed.message.as_slice(), signed.mac.as_slice());
            let call = pin!(async {
                let outcome = connection.query(QUESTION, &[&message, &mac]).await?;
                let no_answer = tenantry_wire::Error::Protocol("no answer about the log");
                let row = outcome.rows.first().ok_or(no_answer)?;
                Ok((row.get::<bool>(0)?, row.get::<i64>(1)?))
            });
            timer.limit(Instant::now(), ANSWER_TIMEOUT, call).await
        };
        match answered {
            Ok((standby, position)) => Ok(Answer {
                standby,
                position: end_of_log(u64::try_from(position).unwrap_or(0)),
                place,
            }),
            Err(error) => {
                // Whatever it was, another connection is asked the next time.
                lease.taint();
                Err(error)
            }
        }
    }
}

impl Caller {
    /// For questions that are bound to nobody, and wait for no tenant's turn.
    fn of_nobody() -> Self {
        Self::new(&tenantry_core::Context {
            tenant: TenantId::from_uuid(uuid::Uuid::nil()),
            actor: tenantry_core::Actor::System {
                reason: "how far replicas are".to_owned(),
            },
            role: tenantry_core::Role::Viewer,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_is_as_new_as_the_last_moment_it_is_past() {
        let watch = Watch::new();
        let begin = Instant::now();
        let at = |n: u64| begin + Duration::from_millis(n);
        for (n, position) in [(1, 100), (2, 100), (3, 250)] {
            watch.note(Sample { at: at(n), position });
        }
        assert_eq!(watch.moment_of(99), None);
        assert_eq!(watch.moment_of(100), Some(at(2)));
        assert_eq!(watch.moment_of(249), Some(at(2)));
        assert_eq!(watch.moment_of(1000), Some(at(3)));
        for n in 0..2 * SAMPLES_MAX as u64 {
            watch.note(Sample {
                at: at(10 + n),
                position: 1000 + n,
            });
        }
        assert_eq!(watch.moment_of(999), None);
    }
}
