//! A session of the application: writes and reads by way of a scope, and takes down what it is told.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tenantry::{Error, ErrorKind, Scope};

use super::{
    history::{Act, Entry, Event, History, Outcome, Posting, Seen, Session, Thing},
    schema::{self, ACCOUNTS, APPEND, BOOK, POST, READ, REMOVE},
};
use crate::rng::Rng;

/// How many things a session has at most.
const THINGS: i32 = 6;

/// A session at work. Dropping it ends it; [`Writer::stop`] waits for what is under way.
pub(crate) struct Writer {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    work: tokio::task::JoinHandle<()>,
}

/// What a session does next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Append,
    Transfer,
    Put,
    Remove,
    Rekey,
    Again,
    Together,
    Read,
}

impl Kind {
    const ALL: [(Self, u64); 8] = [
        (Self::Append, 30),
        (Self::Transfer, 20),
        (Self::Put, 15),
        (Self::Remove, 6),
        (Self::Rekey, 4),
        (Self::Again, 3),
        (Self::Together, 12),
        (Self::Read, 10),
    ];

    fn next(rng: &mut Rng) -> Self {
        let mut left = rng.below(Self::ALL.iter().map(|(_, share)| share).sum());
        for (kind, share) in Self::ALL {
            if left < share {
                return kind;
            }
            left -= share;
        }
        Self::Append
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.work.abort();
    }
}

impl Writer {
    /// Starts a session that pauses that long after each of its acts.
    pub(crate) fn start(scope: Scope, history: History, session: Session, rng: Rng, pause: Duration) -> Self {
        let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let work = At {
            scope,
            history,
            session,
            rng,
            seq: 0,
            next_thing: 0,
            things: Vec::new(),
            written: written.clone(),
        };
        let work = tokio::spawn(work.run(stop.clone(), pause));
        Self { stop, written, work }
    }

    /// How many writes were acknowledged.
    pub(crate) fn written(&self) -> u64 {
        self.written.load(Ordering::SeqCst)
    }

    /// Lets it end what is under way.
    pub(crate) async fn stop(mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // A panic of the session is a failure of the proof.
        if let Err(error) = (&mut self.work).await {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}

/// A session between two acts.
struct At {
    scope: Scope,
    history: History,
    session: Session,
    rng: Rng,
    seq: i32,
    next_thing: i32,
    /// Those that are there, as far as is known. One whose fate is unknown is left alone for good.
    things: Vec<Thing>,
    written: Arc<AtomicU64>,
}

impl At {
    async fn run(mut self, stop: Arc<AtomicBool>, pause: Duration) {
        while !stop.load(Ordering::SeqCst) {
            let kind = Kind::next(&mut self.rng);
            let kept = self.act(kind).await;
            let spread = u64::try_from(pause.as_micros()).unwrap_or(0);
            let micros = spread / 2 + self.rng.below(spread.max(1));
            tokio::time::sleep(Duration::from_micros(micros)).await;
            if !kept {
                // As an application that was refused would.
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        self.read().await;
    }

    async fn act(&mut self, kind: Kind) -> bool {
        match kind {
            Kind::Append => self.append().await,
            Kind::Transfer => self.transfer().await,
            Kind::Put => self.put().await,
            Kind::Remove => self.remove().await,
            Kind::Rekey => self.rekey().await,
            Kind::Again => self.again().await,
            Kind::Together => self.together().await,
            Kind::Read => self.read().await,
        }
    }

    fn entry(&mut self) -> Entry {
        self.seq += 1;
        Entry {
            session: self.session,
            seq: self.seq,
        }
    }

    async fn append(&mut self) -> bool {
        let entry = self.entry();
        let begun = self.history.tick();
        let note = format!("of {}", self.session.0);
        let done = self
            .scope
            .query_one(APPEND, &[&entry.session.0, &entry.seq, &note])
            .await;
        let done = done.and_then(|row| row.get::<String>(0));
        self.told(begun, vec![Act::Enter(entry, Posting::default())], done.map(Some))
    }

    async fn transfer(&mut self) -> bool {
        let number = ACCOUNTS.len() as u64;
        let debit = i32::try_from(1 + self.rng.below(number)).unwrap_or(1);
        let credit = debit % ACCOUNTS.len() as i32 + 1;
        let posting = Posting {
            debit,
            credit,
            amount: i64::try_from(1 + self.rng.below(9)).unwrap_or(1),
        };
        let entry = self.entry();
        let begun = self.history.tick();
        let done = self.post(entry, posting).await;
        self.told(begun, vec![Act::Enter(entry, posting)], done.map(Some))
    }

    async fn post(&self, entry: Entry, posting: Posting) -> Result<String, Error> {
        let Posting { debit, credit, amount } = posting;
        let mut transaction = self.scope.begin().await?;
        transaction.execute(BOOK, &[&debit, &-amount]).await?;
        let row = transaction
            .query_one(POST, &[&entry.session.0, &entry.seq, &debit, &credit, &amount])
            .await?;
        transaction.execute(BOOK, &[&credit, &amount]).await?;
        transaction.commit().await?;
        row.get(0)
    }

    async fn put(&mut self) -> bool {
        let values = i32::try_from(self.rng.below(1_000_000)).unwrap_or(0);
        let is_new = self.things.len() < THINGS as usize && self.rng.chance(60) || self.things.is_empty();
        let thing = match is_new {
            true => self.new_thing(),
            false => *self.rng.pick(&self.things),
        };
        let begun = self.history.tick();
        let (session, n) = (thing.session.0, thing.n);
        let done = match is_new {
            true => {
                let name = name_of(thing);
                let sql = schema::put();
                self.scope.query_one(&sql, &[&session, &n, &values, &name]).await
            }
            false => self.scope.query_one(&schema::change(), &[&session, &n, &values]).await,
        };
        let done = done.and_then(|row| row.get::<String>(0));
        let digest = done.as_ref().ok().cloned();
        let outcome = self.told(begun, vec![Act::Put(thing, digest)], done.map(|_| None));
        self.settle(thing, outcome, is_new);
        outcome
    }

    /// Its name is free again once it is removed, and so is its number.
    async fn remove(&mut self) -> bool {
        if self.things.is_empty() {
            return self.append().await;
        }
        let thing = *self.rng.pick(&self.things);
        let begun = self.history.tick();
        let done = self.scope.query_one(REMOVE, &[&thing.session.0, &thing.n]).await;
        let kept = self.told(begun, vec![Act::Remove(thing)], done.map(|_| None));
        if kept && self.rng.chance(70) {
            self.things.retain(|other| *other != thing);
            let values = i32::try_from(self.rng.below(1_000_000)).unwrap_or(0);
            let begun = self.history.tick();
            let parameters: tenantry::Params<'_> = &[&thing.session.0, &thing.n, &values, &name_of(thing)];
            let done = self.scope.query_one(&schema::put(), parameters).await;
            let done = done.and_then(|row| row.get::<String>(0));
            let digest = done.as_ref().ok().cloned();
            let kept = self.told(begun, vec![Act::Put(thing, digest)], done.map(|_| None));
            self.settle(thing, kept, true);
            return kept;
        }
        self.things.retain(|other| *other != thing);
        kept
    }

    async fn rekey(&mut self) -> bool {
        if self.things.is_empty() {
            return self.append().await;
        }
        let thing = *self.rng.pick(&self.things);
        let other = self.new_thing();
        let begun = self.history.tick();
        let parameters: tenantry::Params<'_> = &[&thing.session.0, &thing.n, &other.n];
        let done = self.scope.query_one(&schema::rekey(), parameters).await;
        let done = done.and_then(|row| row.get::<String>(0));
        let acts = vec![Act::Remove(thing), Act::Put(other, done.as_ref().ok().cloned())];
        let kept = self.told(begun, acts, done.map(|_| None));
        // Its name is the one that it was born with: only a thing of this number may take it again.
        self.things.retain(|one| *one != thing);
        kept
    }

    /// A name that is taken, which has to be refused wherever the tenant lives.
    async fn again(&mut self) -> bool {
        let Some(taken) = self.things.last().copied() else {
            return self.append().await;
        };
        let thing = self.new_thing();
        let begun = self.history.tick();
        let parameters: tenantry::Params<'_> = &[&thing.session.0, &thing.n, &1, &name_of(taken)];
        match self.scope.query_one(&schema::put(), parameters).await {
            Err(error) if error.database().is_some_and(|error| error.code() == "23505") => {
                self.note(begun, vec![Act::Put(thing, None)], Outcome::Refused);
                true
            }
            Err(error) => self.told(begun, vec![Act::Put(thing, None)], Err(error)),
            Ok(_) => {
                let what = format!("the name of thing {}/{} was taken twice", taken.session.0, taken.n);
                self.history.count(|tally| tally.unexpected.push(what));
                self.note(begun, vec![Act::Put(thing, None)], Outcome::Acknowledged);
                false
            }
        }
    }

    /// Reads, and writes two rows that hold together.
    async fn together(&mut self) -> bool {
        let (entry, thing) = (self.entry(), self.new_thing());
        let values = i32::try_from(self.rng.below(1_000_000)).unwrap_or(0);
        let begun = self.history.tick();
        let mut digest = None;
        let done = self.both(begun, entry, thing, values, &mut digest).await;
        if done.is_err() {
            // It was told within the transaction, and may or may not have been kept.
            let acts = vec![Act::Enter(entry, Posting::default()), Act::Put(thing, digest)];
            return self.told(begun, acts, done.map(Some));
        }
        let acts = vec![Act::Enter(entry, Posting::default()), Act::Put(thing, digest)];
        let kept = self.told(begun, acts, done.map(Some));
        self.settle(thing, kept, true);
        kept
    }

    async fn both(
        &self,
        begun: u64,
        entry: Entry,
        thing: Thing,
        values: i32,
        digest: &mut Option<String>,
    ) -> Result<String, Error> {
        let mut transaction = self.scope.begin().await?;
        let row = transaction.query_one(READ, &[]).await?;
        self.saw(begun, &row);
        let note = format!("of {}", self.session.0);
        let row = transaction
            .query_one(APPEND, &[&entry.session.0, &entry.seq, &note])
            .await?;
        let parameters: tenantry::Params<'_> = &[&thing.session.0, &thing.n, &values, &name_of(thing)];
        let put = transaction.query_one(&schema::put(), parameters).await?;
        *digest = Some(put.get(0)?);
        transaction.commit().await?;
        row.get(0)
    }

    async fn read(&mut self) -> bool {
        let begun = self.history.tick();
        match self.scope.query_one(READ, &[]).await {
            Ok(row) => {
                self.saw(begun, &row);
                true
            }
            Err(error) => {
                self.count(&error);
                false
            }
        }
    }

    fn saw(&self, begun: u64, row: &tenantry::Row) {
        let texts = |column: usize| row.get::<Vec<String>>(column);
        let seen = match (texts(0), texts(1), texts(2)) {
            (Ok(entries), Ok(balances), Ok(things)) => schema::look(&entries, &balances, &things),
            _ => None,
        };
        let Some(seen) = seen else {
            self.history
                .count(|tally| tally.unexpected.push("a read gave something else".to_owned()));
            return;
        };
        self.record(begun, Vec::new(), Outcome::Acknowledged, Some(seen));
    }

    fn new_thing(&mut self) -> Thing {
        self.next_thing += 1;
        Thing {
            session: self.session,
            n: self.next_thing,
        }
    }

    fn settle(&mut self, thing: Thing, kept: bool, is_new: bool) {
        match kept {
            true if is_new => self.things.push(thing),
            true => {}
            // Its fate may be unknown.
            false => self.things.retain(|other| *other != thing),
        }
    }

    /// Takes down how it ended. What was acknowledged may tell the isolation level it had.
    fn told(&self, begun: u64, acts: Vec<Act>, done: Result<Option<String>, Error>) -> bool {
        let outcome = match &done {
            Ok(level) => {
                if let Some(level) = level {
                    self.history
                        .count(|tally| *tally.levels.entry(level.clone()).or_default() += 1);
                }
                self.written.fetch_add(1, Ordering::SeqCst);
                Outcome::Acknowledged
            }
            Err(error) => {
                self.count(error);
                match refused_for_good(error) {
                    true => Outcome::Refused,
                    false => Outcome::Unknown,
                }
            }
        };
        self.note(begun, acts, outcome);
        done.is_ok()
    }

    fn note(&self, begun: u64, acts: Vec<Act>, outcome: Outcome) {
        self.record(begun, acts, outcome, None);
    }

    fn record(&self, begun: u64, acts: Vec<Act>, outcome: Outcome, seen: Option<Seen>) {
        self.history.note(Event {
            session: self.session,
            begun,
            ended: self.history.tick(),
            acts,
            outcome,
            seen,
        });
    }

    fn count(&self, error: &Error) {
        let code = error.database().map(|error| format!(" {}", error.code()));
        let kind = format!("{:?}{}", error.kind(), code.unwrap_or_default());
        let is_odd = is_unexpected(error);
        self.history.count(|tally| {
            *tally.kinds.entry(kind).or_default() += 1;
            if is_odd {
                tally.unexpected.push(error.to_string());
            }
        });
    }
}

fn name_of(thing: Thing) -> String {
    format!("thing {}/{}", thing.session.0, thing.n)
}

/// Whether nothing of it can have been kept: PostgreSQL said so, or it was never sent.
pub(crate) fn refused_for_good(error: &Error) -> bool {
    match error.kind() {
        ErrorKind::Database => error
            .database()
            .is_some_and(|error| !matches!(&error.code()[..2], "57" | "08" | "58")),
        ErrorKind::TenantMoving
        | ErrorKind::TenantBusy
        | ErrorKind::PoolFull
        | ErrorKind::Refused
        | ErrorKind::Parameter
        | ErrorKind::TenantNotReady
        | ErrorKind::TenantSuspended
        | ErrorKind::TenantNotFound => true,
        _ => false,
    }
}

/// Whether no fault explains it. Conflicts are the application's own; the rest is servers and networks that go away.
pub(crate) fn is_unexpected(error: &Error) -> bool {
    match error.kind() {
        ErrorKind::Database => error.database().is_some_and(|error| {
            !matches!(error.code(), "40001" | "40P01" | "55P03") && !matches!(&error.code()[..2], "57" | "08" | "58")
        }),
        ErrorKind::TenantMoving
        | ErrorKind::TenantBusy
        | ErrorKind::PoolFull
        | ErrorKind::Unavailable
        | ErrorKind::Timeout => false,
        _ => true,
    }
}
