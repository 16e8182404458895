//! Whether what was told and what is there can both be true.
//!
//! Pure: events in, findings out. An acknowledged transaction is there exactly once, whole; one whose end is unknown at most once, whole or
//! not at all; a refused one never. A read sees everything that was acknowledged before it began, everything that an earlier read
//! has seen, nothing that had not begun when it ended, and balances that are the sum of the entries that it sees: so it sees
//! neither the past of another home nor a copy that is half done.

use std::collections::{BTreeMap, BTreeSet};

use super::history::{Act, Entry, Event, Outcome, Seen, Session, Thing};

/// What can't be.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Finding {
    /// It was acknowledged and is not there at the end.
    Lost(String),
    /// It is there more than once.
    Doubled(String),
    /// Nobody of this tenant wrote it.
    Foreign(String),
    /// It was refused and is there all the same.
    Refused(String),
    /// A read does not see what was acknowledged, or read, before it began.
    Stale(String),
    /// A balance is not what the entries come to.
    Unbalanced(String),
    /// A part of a transaction is there without the other.
    Torn(String),
}

/// Compares a history with what is there at its end. `opened` are the balances that the accounts began with.
pub(crate) fn check(events: &[Event], last: &Seen, opened: &[(i32, i64)]) -> Vec<Finding> {
    let mut findings = BTreeSet::new();
    let told = Told::of(events);
    let mut reads: Vec<Read<'_>> = events
        .iter()
        .filter_map(|event| {
            Some(Read {
                session: Some(event.session),
                begun: event.begun,
                ended: event.ended,
                seen: event.seen.as_ref()?,
            })
        })
        .collect();
    reads.push(Read {
        session: None,
        begun: u64::MAX,
        ended: u64::MAX,
        seen: last,
    });
    let things = Things::of(events);
    for read in &reads {
        told.check_entries(read, &mut findings);
        check_balances(read, opened, &mut findings);
        things.check(read, &mut findings);
    }
    check_order(&told, &mut reads, &mut findings);
    told.check_whole(last, &things, &mut findings);
    findings.into_iter().collect()
}

/// What somebody saw, and when. The look at the end is nobody's.
struct Read<'a> {
    session: Option<Session>,
    begun: u64,
    ended: u64,
    seen: &'a Seen,
}

impl Read<'_> {
    fn by(&self) -> String {
        match self.session {
            Some(session) => format!("read by session {} at {}", session.0, self.begun),
            None => "at the end".to_owned(),
        }
    }
}

/// What was told of each entry.
struct Told<'a> {
    entries: BTreeMap<Entry, &'a Event>,
    events: &'a [Event],
}

impl<'a> Told<'a> {
    fn of(events: &'a [Event]) -> Self {
        let mut entries = BTreeMap::new();
        for event in events {
            for act in &event.acts {
                if let Act::Enter(entry, _) = act {
                    entries.insert(*entry, event);
                }
            }
        }
        Self { entries, events }
    }

    fn check_entries(&self, read: &Read<'_>, findings: &mut BTreeSet<Finding>) {
        let mut there = BTreeSet::new();
        for (entry, posting) in &read.seen.entries {
            let what = format!("entry {}/{}, {}", entry.session.0, entry.seq, read.by());
            if !there.insert(*entry) {
                findings.insert(Finding::Doubled(what.clone()));
            }
            let finding = match self.entries.get(entry) {
                None => Finding::Foreign(what),
                Some(event) if event.begun > read.ended => Finding::Foreign(what),
                Some(event) if event.outcome == Outcome::Refused => Finding::Refused(what),
                Some(event) if !event.acts.contains(&Act::Enter(*entry, *posting)) => {
                    Finding::Torn(format!("{what}: it says {posting:?}"))
                }
                Some(_) => continue,
            };
            findings.insert(finding);
        }
    }

    /// All acts of a transaction that may have been kept, or none of them: as far as the end still shows.
    fn check_whole(&self, last: &Seen, things: &Things<'_>, findings: &mut BTreeSet<Finding>) {
        let there: BTreeSet<Entry> = last.entries.iter().map(|(entry, _)| *entry).collect();
        for event in self.events.iter().filter(|event| event.outcome == Outcome::Unknown) {
            let mut kept = Vec::new();
            for act in &event.acts {
                match act {
                    Act::Enter(entry, _) => kept.push(there.contains(entry)),
                    Act::Put(thing, _) | Act::Remove(thing) => kept.extend(things.was_kept(*thing, act, last)),
                }
            }
            if kept.iter().any(|one| *one != kept[0]) {
                findings.insert(Finding::Torn(format!(
                    "{:?} of session {}",
                    event.acts, event.session.0
                )));
            }
        }
    }
}

fn check_balances(read: &Read<'_>, opened: &[(i32, i64)], findings: &mut BTreeSet<Finding>) {
    let mut sums: BTreeMap<i32, i64> = opened.iter().copied().collect();
    for (_, posting) in &read.seen.entries {
        if posting.amount != 0 {
            *sums.entry(posting.debit).or_default() -= posting.amount;
            *sums.entry(posting.credit).or_default() += posting.amount;
        }
    }
    let balances: BTreeMap<i32, i64> = read.seen.balances.iter().copied().collect();
    if balances.len() != read.seen.balances.len() {
        findings.insert(Finding::Doubled(format!("an account, {}", read.by())));
    }
    if sums != balances {
        findings.insert(Finding::Unbalanced(format!(
            "{}: the entries come to {sums:?}, the accounts hold {balances:?}",
            read.by()
        )));
    }
}

/// Each read against everything that was known before it began.
fn check_order(told: &Told<'_>, reads: &mut [Read<'_>], findings: &mut BTreeSet<Finding>) {
    // What is known, and since when: the end of the write that was acknowledged, or of a read that saw it.
    let mut known: Vec<(u64, Entry)> = Vec::new();
    for (entry, event) in &told.entries {
        if event.outcome == Outcome::Acknowledged {
            known.push((event.ended, *entry));
        }
    }
    for read in reads.iter().filter(|read| read.session.is_some()) {
        known.extend(read.seen.entries.iter().map(|(entry, _)| (read.ended, *entry)));
    }
    known.sort_unstable();
    reads.sort_by_key(|read| read.begun);
    let (mut next, mut before) = (0, BTreeSet::new());
    for read in reads.iter() {
        while next < known.len() && known[next].0 < read.begun {
            before.insert(known[next].1);
            next += 1;
        }
        let there: BTreeSet<Entry> = read.seen.entries.iter().map(|(entry, _)| *entry).collect();
        for entry in before.difference(&there) {
            let what = format!("entry {}/{}, {}", entry.session.0, entry.seq, read.by());
            findings.insert(match read.session {
                Some(_) => Finding::Stale(what),
                None => Finding::Lost(what),
            });
        }
    }
}

/// What happened to each thing, in the order of its session.
struct Things<'a>(BTreeMap<Thing, Vec<(&'a Event, &'a Act)>>);

impl<'a> Things<'a> {
    fn of(events: &'a [Event]) -> Self {
        let mut things: BTreeMap<Thing, Vec<_>> = BTreeMap::new();
        for event in events {
            for act in &event.acts {
                if let Act::Put(thing, _) | Act::Remove(thing) = act {
                    things.entry(*thing).or_default().push((event, act));
                }
            }
        }
        for acts in things.values_mut() {
            acts.sort_by_key(|(event, _)| event.begun);
        }
        Self(things)
    }

    fn check(&self, read: &Read<'_>, findings: &mut BTreeSet<Finding>) {
        let mut there: BTreeMap<Thing, &str> = BTreeMap::new();
        for (thing, digest) in &read.seen.things {
            let what = format!("thing {}/{}, {}", thing.session.0, thing.n, read.by());
            if !self.0.contains_key(thing) {
                findings.insert(Finding::Foreign(what.clone()));
            }
            if there.insert(*thing, digest).is_some() {
                findings.insert(Finding::Doubled(what));
            }
        }
        for (thing, acts) in &self.0 {
            let found = there.get(thing).copied();
            let may_be = possible(acts, read);
            if may_be.iter().any(|state| state.fits(found)) {
                continue;
            }
            let what = format!(
                "thing {}/{}, {}: it is {found:?} and may be {may_be:?}",
                thing.session.0,
                thing.n,
                read.by()
            );
            findings.insert(match (read.session, found) {
                (Some(_), _) => Finding::Stale(what),
                (None, None) => Finding::Lost(what),
                (None, Some(_)) => Finding::Refused(what),
            });
        }
    }

    /// Whether an act whose end is unknown was kept, where that still shows: nobody touches a thing after such an act.
    fn was_kept(&self, thing: Thing, act: &Act, last: &Seen) -> Option<bool> {
        let before = self
            .0
            .get(&thing)?
            .iter()
            .rev()
            .skip_while(|(_, other)| *other != act)
            .nth(1);
        let stood = match before.map(|(_, act)| *act) {
            Some(Act::Put(_, digest)) => digest.as_deref(),
            _ => None,
        };
        let found = last
            .things
            .iter()
            .find(|(other, _)| *other == thing)
            .map(|(_, digest)| digest.as_str());
        match act {
            // A thing that was refused before stands as it did before that, which this does not look for.
            _ if before.is_some_and(|(event, _)| event.outcome != Outcome::Acknowledged) => None,
            Act::Put(..) => Some(found.is_some() && found != stood),
            Act::Remove(_) => stood.map(|_| found.is_none()),
            Act::Enter(..) => None,
        }
    }
}

/// What a thing may be at some time.
#[derive(Clone, PartialEq, Eq, Debug)]
enum State<'a> {
    Absent,
    Is(&'a str),
    /// There, with content that nobody was told.
    Anything,
}

impl State<'_> {
    fn fits(&self, found: Option<&str>) -> bool {
        match self {
            Self::Absent => found.is_none(),
            Self::Is(digest) => found == Some(digest),
            Self::Anything => found.is_some(),
        }
    }
}

fn possible<'a>(acts: &[(&'a Event, &'a Act)], read: &Read<'_>) -> Vec<State<'a>> {
    let mut states = vec![State::Absent];
    for (event, act) in acts {
        if event.begun > read.ended {
            break;
        }
        let after = match act {
            Act::Put(_, Some(digest)) => State::Is(digest),
            Act::Put(_, None) => State::Anything,
            Act::Remove(_) | Act::Enter(..) => State::Absent,
        };
        match event.outcome {
            Outcome::Refused => {}
            // What had ended before the read began is all that is left.
            Outcome::Acknowledged if event.ended < read.begun => states = vec![after],
            Outcome::Acknowledged | Outcome::Unknown => states.push(after),
        }
    }
    states
}

#[cfg(test)]
mod tests;
