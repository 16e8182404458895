//! What this process keeps for one tenant: how much, in which order it came, and since when it counts.

use std::{
    collections::{BTreeMap, HashMap, hash_map::RandomState},
    hash::BuildHasher as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use tenantry_core::TenantId;

/// One tenant's part of the cache.
#[derive(Default)]
pub(super) struct Shelf {
    /// Grows with each purge: what was begun before counts no more.
    generation: AtomicU64,
    serial: AtomicU64,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    bytes: u64,
    /// The oldest first.
    places: BTreeMap<u64, Place>,
}

struct Place {
    key: Box<str>,
    bytes: u64,
}

/// A value that had to go.
pub(super) struct Gone {
    pub(super) serial: u64,
    pub(super) key: Box<str>,
}

impl Shelf {
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub(super) fn next_serial(&self) -> u64 {
        self.serial.fetch_add(1, Ordering::Relaxed)
    }

    /// Makes room for a value within the tenant's bytes and gives it its place; the tenant's oldest values go.
    pub(super) fn admit(&self, serial: u64, key: &str, bytes: u64, bytes_max: u64) -> Vec<Gone> {
        let mut held = self.held.lock();
        let mut gone = Vec::new();
        while held.bytes + bytes > bytes_max {
            let Some((serial, place)) = held.places.pop_first() else {
                break;
            };
            held.bytes -= place.bytes;
            gone.push(Gone { serial, key: place.key });
        }
        held.bytes += bytes;
        let key = key.into();
        held.places.insert(serial, Place { key, bytes });
        gone
    }

    /// Takes a value's place away. Called by the cache at moments of its choice, so nothing of the cache is called here.
    pub(super) fn remove(&self, serial: u64) {
        let mut held = self.held.lock();
        if let Some(place) = held.places.remove(&serial) {
            held.bytes -= place.bytes;
        }
    }

    /// From now on nothing counts that was begun before; gives what was there.
    pub(super) fn purge(&self) -> Vec<Gone> {
        self.generation.fetch_add(1, Ordering::AcqRel);
        let mut held = self.held.lock();
        held.bytes = 0;
        std::mem::take(&mut held.places)
            .into_iter()
            .map(|(serial, place)| Gone { serial, key: place.key })
            .collect()
    }

    /// How many values there are, and their bytes.
    pub(super) fn size(&self) -> (u64, u64) {
        let held = self.held.lock();
        (held.places.len() as u64, held.bytes)
    }
}

const SHARDS: usize = 16;
/// Below this many shelves nobody looks for empty ones.
const SWEEP_MIN: usize = 256;

/// The shelves of all tenants that have values here.
pub(super) struct Shelves {
    shards: [Mutex<Shard>; SHARDS],
    hasher: RandomState,
}

struct Shard {
    shelves: HashMap<TenantId, Arc<Shelf>>,
    sweep_at: usize,
}

impl Default for Shelves {
    fn default() -> Self {
        Self {
            shards: std::array::from_fn(|_| {
                Mutex::new(Shard {
                    shelves: HashMap::new(),
                    sweep_at: SWEEP_MIN,
                })
            }),
            hasher: RandomState::new(),
        }
    }
}

impl Shelves {
    fn shard(&self, tenant: TenantId) -> &Mutex<Shard> {
        &self.shards[(self.hasher.hash_one(tenant) >> 32) as usize % SHARDS]
    }

    /// The tenant's shelf, if it has one.
    pub(super) fn find(&self, tenant: TenantId) -> Option<Arc<Shelf>> {
        self.shard(tenant).lock().shelves.get(&tenant).cloned()
    }

    /// Every shelf.
    pub(super) fn all(&self) -> Vec<(TenantId, Arc<Shelf>)> {
        let mut all = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock();
            all.extend(shard.shelves.iter().map(|(tenant, shelf)| (*tenant, Arc::clone(shelf))));
        }
        all
    }

    /// The tenant's shelf.
    pub(super) fn get(&self, tenant: TenantId) -> Arc<Shelf> {
        let mut shard = self.shard(tenant).lock();
        if let Some(shelf) = shard.shelves.get(&tenant) {
            return Arc::clone(shelf);
        }
        if shard.shelves.len() >= shard.sweep_at {
            // A shelf that anybody still holds stays: its generation is what a late value is told by.
            shard
                .shelves
                .retain(|_, shelf| Arc::strong_count(shelf) > 1 || shelf.size().0 > 0);
            shard.sweep_at = (2 * shard.shelves.len()).max(SWEEP_MIN);
        }
        Arc::clone(shard.shelves.entry(tenant).or_default())
    }

    /// How many values there are, and their bytes.
    pub(super) fn size(&self) -> (u64, u64) {
        let mut sum = (0, 0);
        for shard in &self.shards {
            for shelf in shard.lock().shelves.values() {
                let (entries, bytes) = shelf.size();
                sum = (sum.0 + entries, sum.1 + bytes);
            }
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn the_tenants_oldest_values_make_room() {
        let shelf = Shelf::default();
        assert!(shelf.admit(0, "a", 40, 100).is_empty());
        assert!(shelf.admit(1, "b", 40, 100).is_empty());
        let gone = shelf.admit(2, "c", 40, 100);
        assert_eq!(gone.iter().map(|gone| &*gone.key).collect::<Vec<_>>(), ["a"]);
        assert_eq!(shelf.size(), (2, 80));
        // What the cache says later about what is gone already changes nothing.
        shelf.remove(0);
        assert_eq!(shelf.size(), (2, 80));
    }

    #[test]
    fn a_million_tenants_leave_no_shelves_behind() {
        let shelves = Shelves::default();
        for n in 0..1_000_000 {
            let shelf = shelves.get(TenantId::from_uuid(Uuid::from_u128(n)));
            shelf.admit(0, "a", 10, 100);
            shelf.remove(0);
        }
        let left: usize = shelves.shards.iter().map(|shard| shard.lock().shelves.len()).sum();
        assert!(left <= 2 * SWEEP_MIN * SHARDS, "{left}");
    }
}
