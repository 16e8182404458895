//! The values of this process.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use equivalent::Equivalent;
use moka::{Expiry, sync::Cache};
use tenantry_core::TenantId;

use super::{
    config::CacheConfig,
    entry::Entry,
    flight::{Flights, Seat},
    shelf::{Gone, Shelf, Shelves},
};

/// Names a value in this process.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct LocalKey {
    pub(super) tenant: TenantId,
    pub(super) key: Arc<str>,
}

impl LocalKey {
    pub(super) fn new(tenant: TenantId, key: &str) -> Self {
        Self {
            tenant,
            key: key.into(),
        }
    }
}

/// The same to look up with: no memory is taken for it. Field by field as above, so that both have one hash.
#[derive(Hash)]
struct LocalRef<'a> {
    tenant: TenantId,
    key: &'a str,
}

impl Equivalent<LocalKey> for LocalRef<'_> {
    fn equivalent(&self, key: &LocalKey) -> bool {
        self.tenant == key.tenant && *self.key == *key.key
    }
}

/// The values of this process.
pub(super) struct Local {
    values: Cache<LocalKey, Arc<Entry>>,
    shelves: Shelves,
    flights: Flights,
    tenant_bytes_max: u64,
}

/// Each value lives as long as it says.
struct Ttl;

impl Expiry<LocalKey, Arc<Entry>> for Ttl {
    fn expire_after_create(&self, _: &LocalKey, entry: &Arc<Entry>, _: Instant) -> Option<Duration> {
        Some(entry.ttl)
    }

    fn expire_after_update(
        &self,
        _: &LocalKey,
        entry: &Arc<Entry>,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(entry.ttl)
    }
}

impl Local {
    pub(super) fn new(config: &CacheConfig) -> Self {
        let values = Cache::builder()
            .max_capacity(config.bytes_max)
            .weigher(|_, entry: &Arc<Entry>| u32::try_from(entry.bytes).unwrap_or(u32::MAX))
            .expire_after(Ttl)
            // Must not call the cache: it is called by it.
            .eviction_listener(|_, entry: Arc<Entry>, _| entry.shelf.remove(entry.serial))
            .build();
        Self {
            values,
            shelves: Shelves::default(),
            flights: Flights::default(),
            tenant_bytes_max: config.tenant_bytes_max.min(config.bytes_max),
        }
    }

    /// What is here and counts.
    pub(super) fn get(&self, tenant: TenantId, key: &str) -> Option<Arc<Entry>> {
        self.values
            .get(&LocalRef { tenant, key })
            .filter(|entry| entry.is_valid())
    }

    /// Takes part in the flight of this key.
    pub(super) fn join(&self, tenant: TenantId, key: &str) -> Seat<'_> {
        self.flights.join(LocalKey::new(tenant, key), self.shelves.get(tenant))
    }

    /// A value that was fetched or computed in this flight.
    pub(super) fn entry(&self, seat: &Seat<'_>, text: &str, ttl: Duration) -> Entry {
        let flight = seat.flight();
        Entry::new(&seat.key().key, text, ttl, Arc::clone(&flight.shelf), flight.generation)
    }

    /// Gives what a flight came back with to all who wait for it, and keeps it unless it was outdated meanwhile.
    pub(super) fn land(&self, seat: &Seat<'_>, entry: Arc<Entry>) {
        let (key, flight) = (seat.key(), seat.flight());
        flight.land(Arc::clone(&entry));
        let mut shard = self.flights.hold(key);
        shard.close(key, flight);
        let gone = if flight.may_be_kept() {
            self.insert(key, &entry)
        } else {
            Vec::new()
        };
        drop(shard);
        self.let_go(key.tenant, gone);
        if !entry.is_valid() {
            self.forget_purged(key);
        }
    }

    /// A purge that came between the look at a value's time and its keeping has not seen it. It would not count, but it must not
    /// stay either; what somebody has kept since does.
    fn forget_purged(&self, key: &LocalKey) {
        let _shard = self.flights.hold(key);
        if self.values.get(key).is_some_and(|there| !there.is_valid()) {
            self.values.invalidate(key);
        }
    }

    /// Keeps a value that is newer than all that are under way.
    pub(super) fn set(&self, tenant: TenantId, key: &str, text: &str, ttl: Duration) {
        let key = LocalKey::new(tenant, key);
        let shelf = self.shelves.get(tenant);
        let generation = shelf.generation();
        let entry = Arc::new(Entry::new(&key.key, text, ttl, shelf, generation));
        let mut shard = self.flights.hold(&key);
        shard.outdate(&key);
        let gone = self.insert(&key, &entry);
        drop(shard);
        self.let_go(tenant, gone);
        if !entry.is_valid() {
            self.forget_purged(&key);
        }
    }

    /// Forgets a value, and whatever is under way for it.
    pub(super) fn outdate(&self, tenant: TenantId, key: &str) {
        let key = LocalKey::new(tenant, key);
        let mut shard = self.flights.hold(&key);
        shard.outdate(&key);
        self.values.invalidate(&key);
    }

    /// Forgets all of a tenant, and whatever is under way for it.
    pub(super) fn purge(&self, tenant: TenantId) {
        let Some(shelf) = self.shelves.find(tenant) else {
            return;
        };
        self.clear(tenant, &shelf);
        self.values.run_pending_tasks();
    }

    /// The same of every tenant.
    pub(super) fn purge_all(&self) {
        for (tenant, shelf) in self.shelves.all() {
            self.clear(tenant, &shelf);
        }
        self.values.run_pending_tasks();
    }

    fn clear(&self, tenant: TenantId, shelf: &Shelf) {
        for gone in shelf.purge() {
            self.values.invalidate(&LocalRef { tenant, key: &gone.key });
        }
    }

    /// How many values there are, and their bytes.
    pub(super) fn size(&self) -> (u64, u64) {
        self.values.run_pending_tasks();
        self.shelves.size()
    }

    /// To be called under the lock of the key's shard. What has to go for it is let go afterwards.
    fn insert(&self, key: &LocalKey, entry: &Arc<Entry>) -> Vec<Gone> {
        if entry.bytes > self.tenant_bytes_max {
            self.values.invalidate(key);
            return Vec::new();
        }
        let gone = entry
            .shelf
            .admit(entry.serial, &key.key, entry.bytes, self.tenant_bytes_max);
        self.values.insert(key.clone(), Arc::clone(entry));
        gone
    }

    fn let_go(&self, tenant: TenantId, gone: Vec<Gone>) {
        for gone in gone {
            let name = LocalRef { tenant, key: &gone.key };
            // Another value may have taken the key since.
            if self.values.get(&name).is_some_and(|entry| entry.serial == gone.serial) {
                self.values.invalidate(&name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const TTL: Duration = Duration::from_secs(60);

    fn tenant(n: u128) -> TenantId {
        TenantId::from_uuid(Uuid::from_u128(n))
    }

    fn local(bytes_max: u64, tenant_bytes_max: u64) -> Local {
        Local::new(&CacheConfig {
            bytes_max,
            tenant_bytes_max,
            ..CacheConfig::default()
        })
    }

    #[test]
    fn a_tenant_that_fills_its_part_drives_out_its_own_values_only() {
        let local = local(1_000_000, 10_000);
        local.set(tenant(1), "kept", "1", TTL);
        for n in 0..1000 {
            local.set(tenant(2), &format!("key {n}"), &"x".repeat(100), TTL);
            let (_, bytes) = local.shelves.get(tenant(2)).size();
            assert!(bytes <= 10_000, "{bytes}");
        }
        assert!(local.get(tenant(1), "kept").is_some());
        assert!(local.get(tenant(2), "key 999").is_some());
        assert!(local.get(tenant(2), "key 0").is_none());
        let (entries, bytes) = local.size();
        assert!(entries < 30 && bytes <= 11_000, "{entries} {bytes}");
        assert_eq!(local.values.entry_count(), entries);
    }

    #[test]
    fn many_tenants_together_keep_within_the_whole() {
        let local = local(100_000, 10_000);
        for n in 0..2000 {
            local.set(tenant(n), "key", &"x".repeat(100), TTL);
        }
        let (_, bytes) = local.size();
        assert!(bytes <= 100_000, "{bytes}");
        assert_eq!(local.values.weighted_size(), bytes);
    }

    #[test]
    fn a_value_larger_than_the_tenants_part_is_not_kept_and_the_older_one_is_gone() {
        let local = local(1_000_000, 2_000);
        local.set(tenant(1), "key", "1", TTL);
        local.set(tenant(1), "key", &"x".repeat(5_000), TTL);
        assert!(local.get(tenant(1), "key").is_none());
    }

    #[test]
    fn what_lands_after_a_change_or_a_purge_is_not_kept() {
        let local = local(1_000_000, 100_000);
        for spoil in [
            (|local: &Local| local.outdate(tenant(1), "key")) as fn(&Local),
            |local| local.set(tenant(1), "key", "2", TTL),
            |local| local.purge(tenant(1)),
        ] {
            let seat = local.join(tenant(1), "key");
            let entry = Arc::new(local.entry(&seat, "1", TTL));
            spoil(&local);
            local.land(&seat, entry);
            let kept = local
                .get(tenant(1), "key")
                .map(|entry| *entry.value::<i32>().expect("a number"));
            assert_ne!(kept, Some(1));
            drop(seat);
            local.purge(tenant(1));
            assert_eq!(local.size(), (0, 0));
        }
    }

    #[test]
    fn a_purge_forgets_one_tenant_and_no_other() {
        let local = local(1_000_000, 100_000);
        for n in 1..3 {
            for key in 0..100 {
                local.set(tenant(n), &key.to_string(), "1", TTL);
            }
        }
        local.purge(tenant(1));
        assert_eq!(local.size().0, 100);
        assert!((0..100).all(|key| local.get(tenant(1), &key.to_string()).is_none()));
        assert!((0..100).all(|key| local.get(tenant(2), &key.to_string()).is_some()));
        // And it can be used again.
        local.set(tenant(1), "1", "1", TTL);
        assert!(local.get(tenant(1), "1").is_some());
    }

    #[test]
    fn purges_and_values_at_once_leave_nothing_of_before() {
        let local = Arc::new(local(10_000_000, 1_000_000));
        for round in 0..50 {
            let writers: Vec<_> = (0..2)
                .map(|writer| {
                    let local = Arc::clone(&local);
                    std::thread::spawn(move || {
                        for key in 0..200 {
                            let seat = local.join(tenant(1), &format!("{writer} {key}"));
                            let entry = Arc::new(local.entry(&seat, "1", TTL));
                            local.land(&seat, entry);
                        }
                    })
                })
                .collect();
            local.purge(tenant(1));
            for writer in writers {
                writer.join().expect("writes");
            }
            local.purge(tenant(1));
            assert_eq!(local.size(), (0, 0), "round {round}");
            assert_eq!(local.values.entry_count(), 0, "round {round}");
        }
    }
}
