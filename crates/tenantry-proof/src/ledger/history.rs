//! What sessions asked for, and what they were told.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;

/// A session that writes one thing after the other. No two of a proof have the same number, of whichever tenant.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Session(pub(crate) i32);

/// An entry of the ledger: written once, never changed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Entry {
    pub(crate) session: Session,
    pub(crate) seq: i32,
}

/// A thing that only its session changes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Thing {
    pub(crate) session: Session,
    pub(crate) n: i32,
}

/// What an entry takes from one account and gives to another; nothing, where both are 0.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Posting {
    pub(crate) debit: i32,
    pub(crate) credit: i32,
    pub(crate) amount: i64,
}

/// A part of what a transaction does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Act {
    /// Writes an entry, and what it posts to the accounts' balances.
    Enter(Entry, Posting),
    /// Writes or changes a thing; the digest of the row, once it is known.
    Put(Thing, Option<String>),
    /// Removes a thing.
    Remove(Thing),
}

/// How it ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    /// All of it was kept.
    Acknowledged,
    /// Nothing was kept.
    Refused,
    /// The connection broke, or nobody answered: all or nothing.
    Unknown,
}

/// What one statement read, all as of one moment.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(crate) struct Seen {
    /// In no order; twice where it stands twice.
    pub(crate) entries: Vec<(Entry, Posting)>,
    pub(crate) balances: Vec<(i32, i64)>,
    pub(crate) things: Vec<(Thing, String)>,
}

/// One transaction, or one statement by itself, as its session saw it.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) session: Session,
    /// When it was asked for and when the answer was there, in ticks of the history's clock.
    pub(crate) begun: u64,
    pub(crate) ended: u64,
    pub(crate) acts: Vec<Act>,
    pub(crate) outcome: Outcome,
    /// What it read, if it read.
    pub(crate) seen: Option<Seen>,
}

/// What all sessions of one tenant were told. Their ticks are of one clock, so what ended before something began did so for
/// everybody.
#[derive(Clone, Default, Debug)]
pub(crate) struct History {
    events: Arc<Mutex<Vec<Event>>>,
    tally: Arc<Mutex<Tally>>,
    clock: Arc<AtomicU64>,
}

/// How much was done, for the summary.
#[derive(Clone, Default, Debug)]
pub(crate) struct Tally {
    pub(crate) acknowledged: u64,
    pub(crate) refused: u64,
    pub(crate) unknown: u64,
    pub(crate) reads: u64,
    /// Acknowledged writes by the isolation level that PostgreSQL named.
    pub(crate) levels: BTreeMap<String, u64>,
    /// Refusals and failures by their kind.
    pub(crate) kinds: BTreeMap<String, u64>,
    /// Refusals that no fault explains, with what was told.
    pub(crate) unexpected: Vec<String>,
}

impl Tally {
    /// Adds another one to it.
    pub(crate) fn add(&mut self, other: &Self) {
        self.acknowledged += other.acknowledged;
        self.refused += other.refused;
        self.unknown += other.unknown;
        self.reads += other.reads;
        for (level, count) in &other.levels {
            *self.levels.entry(level.clone()).or_default() += count;
        }
        for (kind, count) in &other.kinds {
            *self.kinds.entry(kind.clone()).or_default() += count;
        }
        self.unexpected.extend(other.unexpected.iter().cloned());
    }
}

impl History {
    /// The next tick.
    pub(crate) fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    /// Adds what a session was told.
    pub(crate) fn note(&self, event: Event) {
        {
            let mut tally = self.tally.lock();
            match (&event.outcome, event.acts.is_empty()) {
                (Outcome::Acknowledged, true) => tally.reads += 1,
                (Outcome::Acknowledged, false) => tally.acknowledged += 1,
                (Outcome::Refused, _) => tally.refused += 1,
                (Outcome::Unknown, _) => tally.unknown += 1,
            }
        }
        self.events.lock().push(event);
    }

    /// Counts something beside.
    pub(crate) fn count(&self, note: impl FnOnce(&mut Tally)) {
        note(&mut self.tally.lock());
    }

    /// Everything so far.
    pub(crate) fn events(&self) -> Vec<Event> {
        self.events.lock().clone()
    }

    /// How much so far.
    pub(crate) fn tally(&self) -> Tally {
        self.tally.lock().clone()
    }
}
