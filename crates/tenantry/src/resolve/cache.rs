//! A bounded cache that never keeps what was invalidated while it was being loaded.

use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::{BuildHasher as _, Hash},
    sync::Arc,
};

use parking_lot::Mutex;

/// Enough that threads seldom meet; a power of two.
const SHARDS: usize = 16;

/// Values by key, found ones and known-absent ones, each kind with a bound of its own: who asks for a million names that
/// don't exist drives out nobody who does.
pub(super) struct Cache<K, V> {
    shards: [Mutex<Shard<K, V>>; SHARDS],
    // One load at a time for the keys of a stripe: a thousand requests at once ask the catalog once.
    flights: [tokio::sync::Mutex<()>; SHARDS],
    hasher: RandomState,
}

struct Shard<K, V> {
    found: Generations<K, Arc<V>>,
    absent: Generations<K, ()>,
    // Grows with each invalidation; what was loaded under an older one may be outdated and is not kept.
    invalidations: u64,
}

/// Permission to keep what is being loaded, unless something is invalidated meanwhile.
#[derive(Clone, Copy)]
pub(super) struct Ticket(u64);

/// The same for whichever key the look-up will turn out to be about.
#[derive(Clone, Copy)]
pub(super) struct Tickets([Ticket; SHARDS]);

impl<K: Hash + Eq + Clone, V> Cache<K, V> {
    pub(super) fn new(found_max: usize, absent_max: usize) -> Self {
        Self {
            shards: std::array::from_fn(|_| {
                Mutex::new(Shard {
                    found: Generations::new(found_max / SHARDS),
                    absent: Generations::new(absent_max / SHARDS),
                    invalidations: 0,
                })
            }),
            flights: std::array::from_fn(|_| tokio::sync::Mutex::new(())),
            hasher: RandomState::new(),
        }
    }

    fn index(&self, key: &K) -> usize {
        // Not the low bits: those choose the place within a shard's map.
        (self.hasher.hash_one(key) >> 32) as usize % SHARDS
    }

    /// What is known: `Some(None)` that there is nothing.
    pub(super) fn get(&self, key: &K) -> Option<Option<Arc<V>>> {
        let mut shard = self.shards[self.index(key)].lock();
        if let Some(value) = shard.found.get(key) {
            return Some(Some(value));
        }
        shard.absent.get(key).map(|()| None)
    }

    /// What is known, or what `load` finds out, which is asked once for all who wait.
    ///
    /// # Cancel safety
    /// Dropping the future lets the next waiter load.
    pub(super) async fn get_or_load<E>(
        &self,
        key: &K,
        load: impl AsyncFnOnce() -> Result<Option<V>, E>,
    ) -> Result<Option<Arc<V>>, E> {
        if let Some(known) = self.get(key) {
            return Ok(known);
        }
        let _flight = self.flights[self.index(key)].lock().await;
        if let Some(known) = self.get(key) {
            return Ok(known);
        }
        let ticket = self.ticket(key);
        let value = load().await?.map(Arc::new);
        self.keep(ticket, key, value.clone());
        Ok(value)
    }

    /// To be taken before what is kept is looked up.
    pub(super) fn ticket(&self, key: &K) -> Ticket {
        Ticket(self.shards[self.index(key)].lock().invalidations)
    }

    /// To be taken before something is looked up whose key is not known yet.
    pub(super) fn tickets(&self) -> Tickets {
        Tickets(std::array::from_fn(|shard| {
            Ticket(self.shards[shard].lock().invalidations)
        }))
    }

    /// The one for this key.
    pub(super) fn ticket_of(&self, tickets: Tickets, key: &K) -> Ticket {
        tickets.0[self.index(key)]
    }

    /// Keeps a value, unless something was invalidated since the ticket was taken.
    pub(super) fn keep(&self, ticket: Ticket, key: &K, value: Option<Arc<V>>) {
        let mut shard = self.shards[self.index(key)].lock();
        if shard.invalidations != ticket.0 {
            return;
        }
        match value {
            Some(value) => shard.found.insert(key.clone(), value),
            None => shard.absent.insert(key.clone(), ()),
        }
    }

    pub(super) fn invalidate(&self, key: &K) {
        let mut shard = self.shards[self.index(key)].lock();
        shard.invalidations += 1;
        shard.found.remove(key);
        shard.absent.remove(key);
    }

    /// Drops the values that match, and whatever is known to be absent.
    pub(super) fn invalidate_if(&self, matches: impl Fn(&V) -> bool) {
        for shard in &self.shards {
            let mut shard = shard.lock();
            shard.invalidations += 1;
            shard.absent.clear();
            shard.found.retain(|value| !matches(value));
        }
    }

    /// Forgets what is known to be absent.
    pub(super) fn invalidate_absent(&self) {
        self.invalidate_if(|_| false);
    }

    pub(super) fn clear(&self) {
        self.invalidate_if(|_| true);
    }
}

/// A bounded map in two generations: when the young one is full it becomes the old one, and what was in the old one and
/// not asked for meanwhile is gone. Each step is constant, and what is used stays.
struct Generations<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    young_max: usize,
}

impl<K: Hash + Eq + Clone, V: Clone> Generations<K, V> {
    fn new(max: usize) -> Self {
        Self {
            young: HashMap::new(),
            old: HashMap::new(),
            young_max: (max / 2).max(1),
        }
    }

    fn get(&mut self, key: &K) -> Option<V> {
        if let Some(value) = self.young.get(key) {
            return Some(value.clone());
        }
        let (key, value) = self.old.remove_entry(key)?;
        self.insert(key, value.clone());
        Some(value)
    }

    fn insert(&mut self, key: K, value: V) {
        if self.young.len() >= self.young_max && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }

    fn remove(&mut self, key: &K) {
        self.young.remove(key);
        self.old.remove(key);
    }

    fn retain(&mut self, keep: impl Fn(&V) -> bool) {
        self.young.retain(|_, value| keep(value));
        self.old.retain(|_, value| keep(value));
    }

    fn clear(&mut self) {
        self.young = HashMap::new();
        self.old = HashMap::new();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use super::*;

    #[test]
    fn what_is_used_stays_and_the_rest_is_bounded() {
        let mut map = Generations::new(100);
        for key in 0..10_000 {
            map.insert(key, key);
            assert_eq!(map.get(&0), Some(0), "after {key}");
        }
        assert!(map.young.len() + map.old.len() <= 100);
        assert_eq!(map.get(&5), None);
    }

    #[test]
    fn names_that_do_not_exist_drive_out_nobody() {
        let cache = Cache::new(1000, 100);
        cache.keep(cache.ticket(&0), &0, Some(Arc::new("here")));
        for key in 1..100_000 {
            cache.keep(cache.ticket(&key), &key, None);
        }
        assert_eq!(cache.get(&0), Some(Some(Arc::new("here"))));
    }

    #[tokio::test]
    async fn a_thousand_askers_load_once() {
        let cache = Arc::new(Cache::new(100, 100));
        let loads = Arc::new(AtomicUsize::new(0));
        let askers = (0..1000).map(|_| {
            let (cache, loads) = (Arc::clone(&cache), Arc::clone(&loads));
            tokio::spawn(async move {
                let load = async || {
                    loads.fetch_add(1, Ordering::Relaxed);
                    tokio::task::yield_now().await;
                    Ok::<_, Infallible>(Some(7))
                };
                cache.get_or_load(&1, load).await.unwrap()
            })
        });
        for asker in askers.collect::<Vec<_>>() {
            assert_eq!(asker.await.unwrap(), Some(Arc::new(7)));
        }
        assert_eq!(loads.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn what_is_invalidated_while_it_loads_is_not_kept() {
        let cache = Cache::new(100, 100);
        let load = async || {
            cache.invalidate(&1);
            Ok::<_, Infallible>(Some("old"))
        };
        assert_eq!(cache.get_or_load(&1, load).await.unwrap(), Some(Arc::new("old")));
        assert_eq!(cache.get(&1), None);
    }
}
