//! Histories made by hand: good ones pass, and each kind of bad one is found.

use super::{super::history::Posting, *};

const OPENED: [(i32, i64); 2] = [(1, 100), (2, 100)];

fn entry(session: i32, seq: i32) -> Entry {
    Entry {
        session: Session(session),
        seq,
    }
}

fn thing(session: i32, n: i32) -> Thing {
    Thing {
        session: Session(session),
        n,
    }
}

fn plain(session: i32, seq: i32) -> Act {
    Act::Enter(entry(session, seq), Posting::default())
}

const FIVE: Posting = Posting {
    debit: 1,
    credit: 2,
    amount: 5,
};

fn put(n: i32, digest: &str) -> Act {
    Act::Put(thing(1, n), Some(digest.to_owned()))
}

fn event(begun: u64, acts: Vec<Act>, outcome: Outcome) -> Event {
    Event {
        session: Session(1),
        begun,
        ended: begun + 1,
        acts,
        outcome,
        seen: None,
    }
}

fn read(begun: u64, seen: Seen) -> Event {
    Event {
        seen: Some(seen),
        ..event(begun, Vec::new(), Outcome::Acknowledged)
    }
}

fn seen(entries: &[Act], balances: [i64; 2], things: &[(i32, &str)]) -> Seen {
    let entries = entries.iter().map(|act| match act {
        Act::Enter(entry, posting) => (*entry, *posting),
        other => panic!("{other:?}"),
    });
    Seen {
        entries: entries.collect(),
        balances: vec![(1, balances[0]), (2, balances[1])],
        things: things
            .iter()
            .map(|(n, digest)| (thing(1, *n), (*digest).to_owned()))
            .collect(),
    }
}

fn found(events: &[Event], last: &Seen) -> Vec<&'static str> {
    check(events, last, &OPENED)
        .iter()
        .map(|finding| match finding {
            Finding::Lost(_) => "lost",
            Finding::Doubled(_) => "doubled",
            Finding::Foreign(_) => "foreign",
            Finding::Refused(_) => "refused",
            Finding::Stale(_) => "stale",
            Finding::Unbalanced(_) => "unbalanced",
            Finding::Torn(_) => "torn",
        })
        .collect()
}

const ALL: [i64; 2] = [100, 100];

#[test]
fn what_was_acknowledged_is_there_and_what_was_refused_is_not() {
    let events = [
        event(0, vec![plain(1, 1)], Outcome::Acknowledged),
        event(2, vec![plain(1, 2)], Outcome::Refused),
        event(4, vec![plain(1, 3)], Outcome::Unknown),
        event(6, vec![put(1, "a"), plain(1, 4)], Outcome::Acknowledged),
        read(8, seen(&[plain(1, 1), plain(1, 4)], ALL, &[(1, "a")])),
        event(10, vec![put(1, "b")], Outcome::Acknowledged),
        event(12, vec![Act::Remove(thing(1, 1))], Outcome::Refused),
    ];
    let without = seen(&[plain(1, 1), plain(1, 4)], ALL, &[(1, "b")]);
    assert_eq!(found(&events, &without), [""; 0]);
    let with = seen(&[plain(1, 1), plain(1, 3), plain(1, 4)], ALL, &[(1, "b")]);
    assert_eq!(found(&events, &with), [""; 0], "its end was unknown");
}

#[test]
fn an_acknowledged_entry_that_is_gone_is_lost() {
    let events = [event(0, vec![plain(1, 1)], Outcome::Acknowledged)];
    assert_eq!(found(&events, &seen(&[], ALL, &[])), ["lost"]);
}

#[test]
fn an_acknowledged_thing_that_is_gone_or_an_older_one_is_found() {
    let events = [
        event(0, vec![put(1, "a")], Outcome::Acknowledged),
        event(2, vec![put(1, "b")], Outcome::Acknowledged),
    ];
    assert_eq!(found(&events, &seen(&[], ALL, &[])), ["lost"]);
    assert_eq!(found(&events, &seen(&[], ALL, &[(1, "a")])), ["refused"]);
    assert_eq!(found(&events, &seen(&[], ALL, &[(1, "b")])), [""; 0]);
}

#[test]
fn a_removed_thing_that_is_back_is_found() {
    let events = [
        event(0, vec![put(1, "a")], Outcome::Acknowledged),
        event(2, vec![Act::Remove(thing(1, 1))], Outcome::Acknowledged),
    ];
    assert_eq!(found(&events, &seen(&[], ALL, &[(1, "a")])), ["refused"]);
}

#[test]
fn an_entry_that_is_there_twice_is_doubled() {
    let events = [event(0, vec![plain(1, 1)], Outcome::Unknown)];
    assert_eq!(
        found(&events, &seen(&[plain(1, 1), plain(1, 1)], ALL, &[])),
        ["doubled"]
    );
}

#[test]
fn what_nobody_of_the_tenant_wrote_is_foreign() {
    let events = [event(0, vec![plain(1, 1)], Outcome::Acknowledged)];
    assert_eq!(
        found(&events, &seen(&[plain(1, 1), plain(9, 1)], ALL, &[])),
        ["foreign"]
    );
    assert_eq!(found(&[], &seen(&[], ALL, &[(1, "a")])), ["foreign"]);
}

#[test]
fn a_read_that_sees_what_was_written_later_is_found() {
    let events = [
        read(0, seen(&[plain(1, 1)], ALL, &[])),
        event(5, vec![plain(1, 1)], Outcome::Acknowledged),
    ];
    assert_eq!(found(&events, &seen(&[plain(1, 1)], ALL, &[])), ["foreign"]);
}

#[test]
fn a_refused_entry_that_is_there_is_found() {
    let events = [event(0, vec![plain(1, 1)], Outcome::Refused)];
    assert_eq!(found(&events, &seen(&[plain(1, 1)], ALL, &[])), ["refused"]);
}

#[test]
fn a_read_of_an_older_homes_past_is_stale() {
    let events = [
        event(0, vec![plain(1, 1)], Outcome::Acknowledged),
        event(2, vec![put(1, "a")], Outcome::Acknowledged),
        event(4, vec![put(1, "b")], Outcome::Acknowledged),
        read(6, seen(&[], ALL, &[(1, "a")])),
    ];
    assert_eq!(
        found(&events, &seen(&[plain(1, 1)], ALL, &[(1, "b")])),
        ["stale", "stale"]
    );
}

#[test]
fn a_read_may_or_may_not_see_what_is_under_way() {
    let mut slow = event(0, vec![plain(1, 1), put(1, "a")], Outcome::Acknowledged);
    slow.ended = 10;
    let last = seen(&[plain(1, 1)], ALL, &[(1, "a")]);
    for shown in [seen(&[], ALL, &[]), last.clone()] {
        assert_eq!(found(&[slow.clone(), read(5, shown)], &last), [""; 0]);
    }
}

#[test]
fn what_was_read_once_is_read_again() {
    // Its writer was told nothing, but somebody has seen it.
    let events = [
        event(0, vec![plain(1, 1)], Outcome::Unknown),
        read(2, seen(&[plain(1, 1)], ALL, &[])),
        read(4, seen(&[], ALL, &[])),
    ];
    assert_eq!(found(&events, &seen(&[plain(1, 1)], ALL, &[])), ["stale"]);
}

#[test]
fn balances_are_what_the_entries_come_to() {
    let transfer = Act::Enter(entry(1, 1), FIVE);
    let events = [event(0, vec![transfer.clone()], Outcome::Acknowledged)];
    assert_eq!(
        found(&events, &seen(std::slice::from_ref(&transfer), [95, 105], &[])),
        [""; 0]
    );
    assert_eq!(
        found(&events, &seen(std::slice::from_ref(&transfer), [95, 100], &[])),
        ["unbalanced"]
    );
    assert_eq!(
        found(&events, &seen(&[plain(1, 1)], ALL, &[])),
        ["torn"],
        "it says something else"
    );
    let mut half = read(2, seen(std::slice::from_ref(&transfer), [95, 100], &[]));
    half.session = Session(2);
    assert_eq!(
        found(&[events[0].clone(), half], &seen(&[transfer], [95, 105], &[])),
        ["unbalanced"]
    );
}

#[test]
fn half_of_a_transaction_is_torn() {
    let events = [event(0, vec![plain(1, 1), put(1, "a")], Outcome::Unknown)];
    assert_eq!(found(&events, &seen(&[plain(1, 1)], ALL, &[(1, "a")])), [""; 0]);
    assert_eq!(found(&events, &seen(&[], ALL, &[])), [""; 0]);
    assert_eq!(found(&events, &seen(&[plain(1, 1)], ALL, &[])), ["torn"]);
    assert_eq!(found(&events, &seen(&[], ALL, &[(1, "a")])), ["torn"]);
}
