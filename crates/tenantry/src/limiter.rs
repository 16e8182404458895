//! Keeps many tenants to their rates, at next to no cost for each.
//!
//! What is remembered of a tenant is one time (see [`Pace`]), and nothing once that has passed: a tenant that paused is as one that was
//! never seen. So the memory is that of the tenants of the last moments, and forgetting needs no clock of its own.

use std::{
    hash::BuildHasherDefault,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tenantry_core::{Decision, Pace, TenantId};

use crate::meter::{IdHasher, TenantMap};

/// Locks that requests of different tenants seldom share.
const SHARDS: usize = 64;

/// Below so many, a shard is not looked through before it grows.
const SMALL: usize = 1024;

/// Decides which requests of which tenants are too many. Of one process; whoever divides a rate among several gives each its
/// [part](tenantry_core::Rate::part_of).
///
/// ```
/// use std::time::Instant;
///
/// use tenantry::{Limiter, Pace, TenantId};
///
/// let limiter = Limiter::new();
/// let acme = TenantId::from_uuid(uuid::Uuid::from_u128(1));
/// let pace = Pace { interval_ns: 1_000_000_000, burst: 2 };
/// let now = Instant::now();
/// let allowed = [(); 3].map(|()| limiter.decide(acme, pace, now).allowed);
/// assert_eq!(allowed, [true, true, false]);
/// ```
pub struct Limiter {
    started: Instant,
    shards: Box<[Mutex<TenantMap<u64>>]>,
}

impl Default for Limiter {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Limiter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Limiter").field("tenants", &self.tenants()).finish()
    }
}

impl Limiter {
    /// One that has seen nobody.
    pub fn new() -> Self {
        Self {
            started: Instant::now(),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
        }
    }

    /// Decides about one request at `now`.
    pub fn decide(&self, tenant: TenantId, pace: Pace, now: Instant) -> Decision {
        let now_ns = nanoseconds(now.saturating_duration_since(self.started));
        let mut shard = self.shard(tenant).lock();
        if let Some(paid_at) = shard.get_mut(&tenant) {
            let (decision, then) = pace.decide(*paid_at, now_ns);
            *paid_at = then;
            return decision;
        }
        if shard.len() == shard.capacity() && shard.len() >= SMALL {
            forget(&mut shard, now_ns);
        }
        let (decision, then) = pace.decide(0, now_ns);
        shard.insert(tenant, then);
        decision
    }

    /// How many tenants are remembered.
    pub fn tenants(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    fn shard(&self, tenant: TenantId) -> &Mutex<TenantMap<u64>> {
        // Other bits than those by which the map finds its place.
        let byte = tenant.as_uuid().as_bytes()[15];
        &self.shards[usize::from(byte) % SHARDS]
    }
}

/// Forgets whoever has paused. Where few have, the map grows, so that the work stays in proportion; where nearly all have, it shrinks.
#[cold]
fn forget(shard: &mut TenantMap<u64>, now_ns: u64) {
    shard.retain(|_, paid_at| *paid_at > now_ns);
    if shard.len() > shard.capacity() / 2 {
        shard.reserve(shard.capacity());
    } else if shard.len() < shard.capacity() / 8 {
        let mut smaller =
            TenantMap::with_capacity_and_hasher(shard.len() * 2, BuildHasherDefault::<IdHasher>::default());
        smaller.extend(shard.drain());
        *shard = smaller;
    }
}

fn nanoseconds(time: Duration) -> u64 {
    // Five hundred years.
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn id(n: u128) -> TenantId {
        // As version 7 has it: the random bits at the end.
        TenantId::from_uuid(Uuid::from_u128(
            n.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835),
        ))
    }

    const PACE: Pace = Pace {
        interval_ns: 1_000_000,
        burst: 3,
    };

    #[test]
    fn each_tenant_has_its_own_rate() {
        let limiter = Limiter::new();
        let start = Instant::now();
        let allowed = |tenant, ms| {
            limiter
                .decide(id(tenant), PACE, start + Duration::from_millis(ms))
                .allowed
        };
        let burst = [(); 4].map(|()| allowed(1, 0));
        assert_eq!(burst, [true, true, true, false]);
        assert!(allowed(2, 0), "another tenant has its own");
        assert!(allowed(1, 1) && !allowed(1, 1) && allowed(1, 2));
        assert_eq!(limiter.tenants(), 2);
    }

    #[test]
    fn who_paused_is_forgotten_and_nobody_else() {
        let limiter = Limiter::new();
        let start = Instant::now();
        for n in 0..300_000 {
            limiter.decide(id(n), PACE, start);
        }
        assert_eq!(limiter.tenants(), 300_000);
        // One who has used its burst, and one who asks now and then, while many others come and go.
        let busy = id(u128::MAX);
        for round in 1..10 {
            let now = start + Duration::from_secs(round);
            while limiter.decide(busy, PACE, now).allowed {}
            for n in 0..100_000 {
                limiter.decide(id(1_000_000 * u128::from(round) + n), PACE, now);
            }
            assert!(!limiter.decide(busy, PACE, now).allowed, "round {round}");
        }
        assert!(limiter.tenants() < 500_000, "{}", limiter.tenants());
    }
}
