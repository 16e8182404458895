//! Calls that wait for their tenant's move. They take turns to ask whether it has ended, and who is served lets others go, who do the same.
//!
//! If each asked by itself, hundreds would ask the catalog and both homes at once, and keep them from what they wait for: the longer it took,
//! the more of them there would be. When the catalog tells that something became of the tenant, the first of them asks at once.

use std::{
    collections::HashMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tenantry_core::TenantId;
use tokio::sync::{Notify, Semaphore};

/// Between two who ask.
const PAUSE: Duration = Duration::from_millis(10);
/// As many others are let go by each that is served: all of them soon.
const OTHERS: usize = 8;
/// As many at a time have been let go and are not served yet: more than a pool has connections, so that none of those lies idle, and not so many
/// that its queue has no place for them.
const AT_A_TIME: usize = 32;

/// The tenants for whom calls wait.
#[derive(Default)]
pub(crate) struct Waiting(Mutex<HashMap<TenantId, Weak<Gate>>>);

struct Gate {
    /// How many wait.
    waiting: AtomicUsize,
    /// In the order in which they came.
    turn: Semaphore,
    /// Something became of the tenant. Kept for the next who waits, where nobody does at the moment.
    news: Notify,
    /// One for each that is let go.
    leave: Semaphore,
    /// How many were given, and are with somebody or with nobody yet.
    given: Mutex<usize>,
}

impl Gate {
    fn new() -> Self {
        Self {
            waiting: AtomicUsize::new(0),
            turn: Semaphore::new(1),
            news: Notify::new(),
            leave: Semaphore::new(0),
            given: Mutex::new(0),
        }
    }
}

/// Its caller asks now. Dropped, it says that the caller was served, or at least not told to wait.
pub(crate) struct Turn {
    gate: Arc<Gate>,
    /// Somebody who was served has let it go.
    let_go: bool,
    refused: bool,
}

impl Turn {
    /// The caller has to go on waiting: nobody is told.
    pub(crate) fn refuse(mut self) {
        self.refused = true;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut given = self.gate.given.lock();
        *given -= usize::from(self.let_go);
        match self.refused {
            // What nobody has taken yet was given too early, or for an earlier move.
            true => {
                let back = self.gate.leave.forget_permits(*given);
                *given -= back;
            }
            false => {
                let more = AT_A_TIME.saturating_sub(*given).min(OTHERS);
                *given += more;
                self.gate.leave.add_permits(more);
            }
        }
    }
}

/// Counts one that waits until it is dropped.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn of(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        Self(waiting)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Waiting {
    /// Waits until it is worth asking again: somebody was served, the catalog has told something, it is the caller's turn to ask, or it has
    /// waited for so long. Holds nobody up after that, however long the caller's statement takes.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the next one has its turn.
    pub(crate) async fn turn(&self, tenant: TenantId, longest: Duration) -> Turn {
        let gate = self.gate(tenant);
        let let_go = {
            let _counted = Counted::of(&gate.waiting);
            let turn = async {
                let turn = gate.turn.acquire().await;
                tokio::time::sleep(PAUSE).await;
                drop(turn);
            };
            // Whichever is dropped has only waited, and what it was given meanwhile goes to the next.
            tokio::select! {
                biased;
                leave = gate.leave.acquire() => leave.map(|leave| leave.forget()).is_ok(),
                () = gate.news.notified() => false,
                () = turn => false,
                () = tokio::time::sleep(longest) => false,
            }
        };
        Turn {
            gate,
            let_go,
            refused: false,
        }
    }

    /// The catalog tells that something became of the tenant: the first of those who wait asks now.
    pub(crate) fn news(&self, tenant: TenantId) {
        if let Some(gate) = self.known(tenant) {
            gate.news.notify_one();
        }
    }

    /// Whether calls of the tenant wait at the moment.
    pub(crate) fn has_some(&self, tenant: TenantId) -> bool {
        self.known(tenant)
            .is_some_and(|gate| gate.waiting.load(Ordering::Relaxed) > 0)
    }

    /// Whether calls of the tenant wait, or one that has waited asks whether it still has to.
    pub(crate) fn knows(&self, tenant: TenantId) -> bool {
        self.known(tenant).is_some()
    }

    /// Keeps what is told while its holder goes from asking to waiting: with nobody there it would be forgotten.
    pub(crate) fn kept(&self, tenant: TenantId) -> Option<impl Send + use<>> {
        self.known(tenant)
    }

    fn known(&self, tenant: TenantId) -> Option<Arc<Gate>> {
        self.0.lock().get(&tenant).and_then(Weak::upgrade)
    }

    fn gate(&self, tenant: TenantId) -> Arc<Gate> {
        let mut gates = self.0.lock();
        if let Some(gate) = gates.get(&tenant).and_then(Weak::upgrade) {
            return gate;
        }
        gates.retain(|_, gate| gate.strong_count() > 0);
        let gate = Arc::new(Gate::new());
        gates.insert(tenant, Arc::downgrade(&gate));
        gate
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use futures_util::future::{join, join_all};
    use uuid::Uuid;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn tenant(number: u128) -> TenantId {
        TenantId::from_uuid(Uuid::from_u128(number))
    }

    #[tokio::test]
    async fn one_asks_at_a_time_and_who_is_served_lets_the_others_go() {
        let (waiting, asked) = (Waiting::default(), AtomicUsize::new(0));
        let began = Instant::now();
        let calls = (0..200).map(async |_| {
            loop {
                let turn = waiting.turn(tenant(1), LONG).await;
                // The third to ask is served, and with that everybody who asks after it.
                match asked.fetch_add(1, Ordering::Relaxed) {
                    0 | 1 => turn.refuse(),
                    _ => break,
                }
            }
        });
        join_all(calls).await;
        assert_eq!(asked.load(Ordering::Relaxed), 202);
        // Each in its turn would take two seconds.
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    }

    /// More would find no place in the pool's queue.
    #[tokio::test]
    async fn however_many_wait_only_some_at_a_time_are_let_go() {
        let (waiting, now, most) = (Waiting::default(), AtomicUsize::new(0), AtomicUsize::new(0));
        let calls = (0..400).map(async |_| {
            let turn = waiting.turn(tenant(1), LONG).await;
            most.fetch_max(now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(5)).await;
            now.fetch_sub(1, Ordering::Relaxed);
            drop(turn);
        });
        let began = Instant::now();
        join_all(calls).await;
        // Some ask because it is their turn.
        let most = most.load(Ordering::Relaxed);
        assert!((OTHERS..=AT_A_TIME + 8).contains(&most), "{most}");
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn whoever_is_told_to_wait_on_takes_back_what_others_were_given() {
        let waiting = Waiting::default();
        let gate = waiting.gate(tenant(1));
        let first = waiting.turn(tenant(1), LONG).await;
        // Nobody waits: what it gives lies there.
        drop(waiting.turn(tenant(1), LONG).await);
        assert_eq!((*gate.given.lock(), gate.leave.available_permits()), (OTHERS, OTHERS));
        first.refuse();
        assert_eq!((*gate.given.lock(), gate.leave.available_permits()), (0, 0));
        let began = Instant::now();
        for _ in 0..3 {
            waiting.turn(tenant(1), LONG).await.refuse();
        }
        assert!(began.elapsed() >= 3 * PAUSE, "each in its turn: {:?}", began.elapsed());
    }

    #[tokio::test]
    async fn news_let_the_first_ask_at_once_also_where_it_was_asking_when_they_came() {
        let waiting = Waiting::default();
        let gate = waiting.gate(tenant(1));
        let _nobodys_turn = gate.turn.acquire().await.unwrap();
        let waits = async { waiting.turn(tenant(1), LONG).await.refuse() };
        let tells = async {
            while !waiting.has_some(tenant(1)) {
                tokio::task::yield_now().await;
            }
            waiting.news(tenant(2));
            waiting.news(tenant(1));
        };
        join(waits, tells).await;
        waiting.news(tenant(1));
        waiting.turn(tenant(1), LONG).await.refuse();
        assert!(waiting.knows(tenant(1)) && !waiting.has_some(tenant(1)));
    }

    #[tokio::test]
    async fn nobody_waits_for_longer_than_asked_or_for_another_tenants_move() {
        let waiting = Waiting::default();
        let others = waiting.turn(tenant(2), LONG).await;
        let turn = async {
            let gate = waiting.gate(tenant(1));
            let _held = gate.turn.acquire().await;
            waiting.turn(tenant(1), Duration::from_millis(20)).await.refuse();
        };
        turn.await;
        others.refuse();
        assert!(!waiting.knows(tenant(1)) && !waiting.knows(tenant(2)));
        let gates = waiting.0.lock();
        assert!(gates.values().all(|gate| gate.strong_count() == 0));
    }
}
