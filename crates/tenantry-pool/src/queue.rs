//! Who waits for a connection: in the order of asking within a tenant, and by turns among tenants.
//!
//! A tenant with a thousand waiters gets every other connection when one more tenant waits, and loses the last of its own waiters
//! when the queue is full: nobody waits or is refused for what others ask.

use std::collections::{HashMap, VecDeque};

use tenantry_core::TenantId;
use tokio::sync::oneshot;

/// A caller that waits.
pub(crate) struct Waiter<T> {
    /// Its place in the order of asking, among both lanes.
    pub(crate) asked: u64,
    pub(crate) sender: oneshot::Sender<T>,
}

/// Waiters, by turns among their tenants.
pub(crate) struct FairQueue<T> {
    /// Whose turn it is; each tenant with waiters once.
    turns: VecDeque<TenantId>,
    waiters: HashMap<TenantId, VecDeque<Waiter<T>>>,
    len: usize,
}

impl<T> Default for FairQueue<T> {
    fn default() -> Self {
        Self {
            turns: VecDeque::new(),
            waiters: HashMap::new(),
            len: 0,
        }
    }
}

impl<T> FairQueue<T> {
    /// Those who gave up included, until they are passed over.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn push(&mut self, tenant: TenantId, waiter: Waiter<T>) {
        let waiters = self.waiters.entry(tenant).or_default();
        if waiters.is_empty() {
            self.turns.push_back(tenant);
        }
        waiters.push_back(waiter);
        self.len += 1;
    }

    /// How many of one tenant's wait, those who gave up included.
    pub(crate) fn len_of(&self, tenant: TenantId) -> usize {
        self.waiters.get(&tenant).map_or(0, VecDeque::len)
    }

    /// How many wait of tenants that may be served, each with so many at most; not counted on from `enough`.
    pub(crate) fn count_where(&self, enough: usize, room: impl Fn(TenantId) -> usize) -> usize {
        let mut count = 0;
        for tenant in &self.turns {
            if count >= enough {
                break;
            }
            count += self.len_of(*tenant).min(room(*tenant));
        }
        count
    }

    /// Whose turn it is, of tenants that may be served.
    pub(crate) fn front_where(&self, may: impl Fn(TenantId) -> bool) -> Option<&Waiter<T>> {
        let tenant = self.turns.iter().find(|tenant| may(**tenant))?;
        self.waiters.get(tenant)?.front()
    }

    /// Takes whose turn it is, of tenants that may be served; the next turn is another tenant's.
    pub(crate) fn pop_where(&mut self, may: impl Fn(TenantId) -> bool) -> Option<(TenantId, Waiter<T>)> {
        let turn = self.turns.iter().position(|tenant| may(*tenant))?;
        let tenant = self.turns.remove(turn)?;
        let waiters = self.waiters.get_mut(&tenant)?;
        let waiter = waiters.pop_front();
        if waiters.is_empty() {
            self.waiters.remove(&tenant);
        } else {
            self.turns.push_back(tenant);
        }
        self.len -= usize::from(waiter.is_some());
        Some((tenant, waiter?))
    }

    /// Takes the last waiter of the tenant with the most, if that has more than this one.
    pub(crate) fn pop_of_longest(&mut self, than: TenantId) -> Option<Waiter<T>> {
        let own = self.len_of(than);
        let (tenant, waiters) = self.waiters.iter_mut().max_by_key(|(_, waiters)| waiters.len())?;
        // One more of its own would make them equal: no reason to send somebody away.
        if waiters.len() <= own + 1 {
            return None;
        }
        let (tenant, waiter) = (*tenant, waiters.pop_back());
        self.len -= usize::from(waiter.is_some());
        debug_assert!(!self.waiters[&tenant].is_empty(), "it had more than one");
        waiter
    }

    /// Forgets those who gave up.
    pub(crate) fn sweep(&mut self) {
        self.waiters.retain(|_, waiters| {
            waiters.retain(|waiter| !waiter.sender.is_closed());
            !waiters.is_empty()
        });
        self.turns.retain(|tenant| self.waiters.contains_key(tenant));
        self.len = self.waiters.values().map(VecDeque::len).sum();
    }
}

impl<T> IntoIterator for FairQueue<T> {
    type Item = Waiter<T>;
    type IntoIter = std::iter::Flatten<std::collections::hash_map::IntoValues<TenantId, VecDeque<Waiter<T>>>>;

    fn into_iter(self) -> Self::IntoIter {
        self.waiters.into_values().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn tenant(number: u128) -> TenantId {
        TenantId::from_uuid(Uuid::from_u128(number))
    }

    fn waiter(asked: u64) -> (Waiter<()>, oneshot::Receiver<()>) {
        let (sender, receiver) = oneshot::channel();
        (Waiter { asked, sender }, receiver)
    }

    /// Tenant and place in the order of asking.
    fn queue(of: &[(u128, u64)]) -> (FairQueue<()>, Vec<oneshot::Receiver<()>>) {
        let mut queue = FairQueue::default();
        let mut receivers = Vec::new();
        for (number, asked) in of {
            let (waiter, receiver) = waiter(*asked);
            queue.push(tenant(*number), waiter);
            receivers.push(receiver);
        }
        (queue, receivers)
    }

    fn drain(queue: &mut FairQueue<()>) -> Vec<u64> {
        std::iter::from_fn(|| queue.pop_where(|_| true))
            .map(|(_, waiter)| waiter.asked)
            .collect()
    }

    #[test]
    fn tenants_take_turns_and_each_ones_waiters_keep_their_order() {
        let (mut queue, _receivers) = queue(&[(1, 1), (1, 2), (1, 3), (2, 4), (3, 5), (2, 6)]);
        assert_eq!(queue.front_where(|_| true).map(|waiter| waiter.asked), Some(1));
        assert_eq!(drain(&mut queue), [1, 4, 5, 2, 6, 3]);
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn who_may_not_be_served_keeps_its_turn_and_holds_nobody_up() {
        let (mut queue, _receivers) = queue(&[(1, 1), (1, 2), (2, 3), (3, 4)]);
        let but_first = |of| of != tenant(1);
        assert_eq!(queue.count_where(9, |of| usize::from(but_first(of))), 2);
        assert_eq!(queue.count_where(9, |_| 1), 3);
        let served = queue.pop_where(but_first).map(|(of, waiter)| (of, waiter.asked));
        assert_eq!(served, Some((tenant(2), 3)));
        assert_eq!(queue.front_where(|_| true).map(|waiter| waiter.asked), Some(1));
        assert_eq!(drain(&mut queue), [1, 4, 2]);
    }

    #[test]
    fn the_longest_gives_way_and_nobody_else() {
        let (mut queue, _receivers) = queue(&[(1, 1), (1, 2), (1, 3), (2, 4)]);
        assert!(queue.pop_of_longest(tenant(1)).is_none(), "to itself it does not");
        assert_eq!(queue.pop_of_longest(tenant(3)).map(|waiter| waiter.asked), Some(3));
        assert!(
            queue.pop_of_longest(tenant(2)).is_none(),
            "two against one and the next"
        );
        assert_eq!(queue.pop_of_longest(tenant(3)).map(|waiter| waiter.asked), Some(2));
        assert!(queue.pop_of_longest(tenant(3)).is_none());
        assert_eq!(drain(&mut queue), [1, 4]);
    }

    #[test]
    fn who_gave_up_is_forgotten() {
        let (mut queue, mut receivers) = queue(&[(1, 1), (1, 2), (2, 3)]);
        drop(receivers.remove(2));
        drop(receivers.remove(0));
        queue.sweep();
        assert_eq!((queue.len(), drain(&mut queue)), (1, vec![2]));
    }
}
