//! Computing a value once for all who ask for it meanwhile.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::{Mutex, MutexGuard};

use super::{entry::Entry, local::LocalKey, shelf::Shelf};

/// A value on its way. Who holds the turn fetches or computes it; when that one is dropped or panics, the turn goes to the
/// next who waits.
pub(super) struct Flight {
    pub(super) turn: tokio::sync::Mutex<()>,
    /// Set by whoever changes or removes the value meanwhile: what comes of this flight is given to those who wait for it,
    /// and not kept.
    outdated: AtomicBool,
    landed: Mutex<Option<Arc<Entry>>>,
    pub(super) shelf: Arc<Shelf>,
    pub(super) generation: u64,
}

impl Flight {
    fn new(shelf: Arc<Shelf>) -> Self {
        Self {
            turn: tokio::sync::Mutex::new(()),
            outdated: AtomicBool::new(false),
            landed: Mutex::new(None),
            generation: shelf.generation(),
            shelf,
        }
    }

    /// Whether what comes of it may be kept.
    pub(super) fn may_be_kept(&self) -> bool {
        !self.outdated.load(Ordering::Acquire) && self.generation == self.shelf.generation()
    }

    /// What another who had the turn came back with, while nothing was changed.
    pub(super) fn landed(&self) -> Option<Arc<Entry>> {
        let landed = self.landed.lock().clone();
        landed.filter(|_| self.may_be_kept())
    }

    pub(super) fn land(&self, entry: Arc<Entry>) {
        *self.landed.lock() = Some(entry);
    }
}

const SHARDS: usize = 16;

/// All values on their way, by key. Whoever holds a shard's lock decides alone about its keys: that nothing outdated is
/// kept rests on it.
#[derive(Default)]
pub(super) struct Flights {
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Default)]
pub(super) struct Shard(HashMap<LocalKey, Joined>);

struct Joined {
    flight: Arc<Flight>,
    seats: usize,
}

/// A part in a flight, which ends with the last of them.
pub(super) struct Seat<'a> {
    flights: &'a Flights,
    key: LocalKey,
    flight: Arc<Flight>,
}

impl Flights {
    /// Nothing about the keys of this shard changes while the guard lives.
    pub(super) fn hold(&self, key: &LocalKey) -> MutexGuard<'_, Shard> {
        let bytes = key.tenant.as_uuid().as_bytes();
        let mixed = bytes[15] as usize ^ key.key.len() ^ key.key.bytes().last().unwrap_or(0) as usize;
        self.shards[mixed % SHARDS].lock()
    }

    /// Takes part in the flight of this key, or begins one.
    pub(super) fn join(&self, key: LocalKey, shelf: Arc<Shelf>) -> Seat<'_> {
        let mut shard = self.hold(&key);
        // Nobody waits for one that a purge has overtaken.
        if shard.0.get(&key).is_some_and(|joined| !joined.flight.may_be_kept()) {
            shard.0.remove(&key);
        }
        let joined = shard.0.entry(key.clone()).or_insert_with(|| Joined {
            flight: Arc::new(Flight::new(shelf)),
            seats: 0,
        });
        joined.seats += 1;
        let flight = Arc::clone(&joined.flight);
        drop(shard);
        Seat {
            flights: self,
            key,
            flight,
        }
    }
}

impl Shard {
    /// What comes of the present flight of this key is not kept, and who asks from now on begins another.
    pub(super) fn outdate(&mut self, key: &LocalKey) {
        if let Some(joined) = self.0.remove(key) {
            joined.flight.outdated.store(true, Ordering::Release);
        }
    }

    /// Who asks from now on does not take part in this flight.
    pub(super) fn close(&mut self, key: &LocalKey, flight: &Arc<Flight>) {
        if self
            .0
            .get(key)
            .is_some_and(|joined| Arc::ptr_eq(&joined.flight, flight))
        {
            self.0.remove(key);
        }
    }
}

impl Seat<'_> {
    pub(super) fn key(&self) -> &LocalKey {
        &self.key
    }

    pub(super) fn flight(&self) -> &Arc<Flight> {
        &self.flight
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let mut shard = self.flights.hold(&self.key);
        if let Some(joined) = shard.0.get_mut(&self.key)
            && Arc::ptr_eq(&joined.flight, &self.flight)
        {
            joined.seats -= 1;
            if joined.seats == 0 {
                shard.0.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tenantry_core::TenantId;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_flight_ends_with_its_last_seat_and_an_outdated_one_is_left_to_those_in_it() {
        let flights = Flights::default();
        let key = LocalKey::new(TenantId::from_uuid(Uuid::nil()), "a");
        let shelf = Arc::new(Shelf::default());
        let one = flights.join(key.clone(), Arc::clone(&shelf));
        let other = flights.join(key.clone(), Arc::clone(&shelf));
        assert!(Arc::ptr_eq(one.flight(), other.flight()));
        flights.hold(&key).outdate(&key);
        assert!(!one.flight().may_be_kept());
        let next = flights.join(key.clone(), shelf);
        assert!(!Arc::ptr_eq(one.flight(), next.flight()));
        drop((one, other));
        assert!(next.flight().may_be_kept());
        assert_eq!(flights.hold(&key).0.len(), 1);
        drop(next);
        assert!(flights.hold(&key).0.is_empty());
    }
}
