//! Calls that wait for their tenant's move. They take turns to ask whether it has ended, and who is served lets others go, who do the same.
//!
//! If each asked by itself, hundreds would ask the catalog and both homes at once, and keep them from what they wait for: the longer it took,
//! the more of them there would be.

use std::{
    collections::HashMap,
    pin::pin,
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use tenantry_core::TenantId;
use tokio::sync::{Notify, Semaphore};

/// Between two who ask.
const PAUSE: Duration = Duration::from_millis(10);
/// As many others are let go by each that is served: all of them soon, and not so many at once that the pool's queue has no place for them.
const OTHERS: usize = 4;

/// The tenants for whom calls wait.
#[derive(Default)]
pub(crate) struct Waiting(Mutex<HashMap<TenantId, Weak<Gate>>>);

struct Gate {
    /// In the order in which they came.
    turn: Semaphore,
    served: Notify,
}

/// Its caller asks now. Dropped, it says that the caller was served, or at least not told to wait.
pub(crate) struct Turn {
    gate: Arc<Gate>,
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
        if !self.refused {
            for _ in 0..OTHERS {
                self.gate.served.notify_one();
            }
        }
    }
}

impl Waiting {
    /// Waits until it is worth asking again: somebody was served, it is the caller's turn to ask, or it has waited for so long. Holds
    /// nobody up after that, however long the caller's statement takes.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the next one has its turn.
    pub(crate) async fn turn(&self, tenant: TenantId, longest: Duration) -> Turn {
        let gate = self.gate(tenant);
        let mut served = pin!(gate.served.notified());
        // From here on a word is heard.
        served.as_mut().enable();
        let turn = async {
            let turn = gate.turn.acquire().await;
            tokio::time::sleep(PAUSE).await;
            drop(turn);
        };
        // Whichever is dropped has only waited.
        tokio::select! {
            biased;
            () = served => {}
            () = turn => {}
            () = tokio::time::sleep(longest) => {}
        }
        Turn {
            gate: Arc::clone(&gate),
            refused: false,
        }
    }

    fn gate(&self, tenant: TenantId) -> Arc<Gate> {
        let mut gates = self.0.lock();
        if let Some(gate) = gates.get(&tenant).and_then(Weak::upgrade) {
            return gate;
        }
        gates.retain(|_, gate| gate.strong_count() > 0);
        let gate = Arc::new(Gate {
            turn: Semaphore::new(1),
            served: Notify::new(),
        });
        gates.insert(tenant, Arc::downgrade(&gate));
        gate
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::future::join_all;
    use uuid::Uuid;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn tenant(number: u128) -> TenantId {
        TenantId::from_uuid(Uuid::from_u128(number))
    }

    #[tokio::test]
    async fn one_asks_at_a_time_and_who_is_served_lets_the_others_go() {
        let (waiting, asked) = (Waiting::default(), AtomicUsize::new(0));
        let began = std::time::Instant::now();
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
        let gates = waiting.0.lock();
        assert!(gates.values().all(|gate| gate.strong_count() == 0));
    }
}
