//! Who uses how much: what this process did for each tenant, counted until somebody takes the count.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    sync::Arc,
    time::{Duration, Instant},
};

use axum::http::StatusCode;
use parking_lot::Mutex;
use tenantry_core::TenantId;

/// Locks that requests of different tenants seldom share.
const SHARDS: usize = 16;

/// What was done for a tenant.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Use {
    /// Requests that were recognised as the tenant's, whatever became of them.
    pub requests: u64,
    /// Those of them that were refused because the tenant had used up what its plan gives, or its share of a database.
    pub limited: u64,
    /// Those of them that failed through no fault of the tenant's.
    pub failed: u64,
    /// How long they took, all together.
    pub busy: Duration,
}

impl Use {
    /// The same and more.
    pub(crate) fn add(&mut self, more: &Self) {
        self.requests += more.requests;
        self.limited += more.limited;
        self.failed += more.failed;
        self.busy += more.busy;
    }
}

/// An id of version 7 ends in random bits, which are as good as a hash.
#[derive(Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // A uuid comes as its sixteen bytes, after their number.
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.0 = (self.0.rotate_left(5) ^ u64::from_le_bytes(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
    }
}

pub(crate) type TenantMap<V> = HashMap<TenantId, V, BuildHasherDefault<IdHasher>>;

/// What this process did for its tenants in the last whole stretch of time, a minute as a rule; in its first minute, so far.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct RecentUse {
    /// How long the stretch was.
    pub over: Duration,
    /// Each tenant that had a request in it.
    pub tenants: Arc<[(TenantId, Use)]>,
}

/// The counts of this process. Bounded by the number of tenants that are served between two takings.
pub(crate) struct Meter {
    shards: [Mutex<TenantMap<Use>>; SHARDS],
    since: Mutex<Instant>,
    last: Mutex<RecentUse>,
}

impl Default for Meter {
    fn default() -> Self {
        Self {
            shards: Default::default(),
            since: Mutex::new(Instant::now()),
            last: Mutex::default(),
        }
    }
}

impl Meter {
    /// A request of the tenant's was answered.
    pub(crate) fn note(&self, tenant: TenantId, status: StatusCode, took: Duration) {
        let more = Use {
            requests: 1,
            limited: u64::from(matches!(
                status,
                StatusCode::TOO_MANY_REQUESTS | StatusCode::PAYMENT_REQUIRED
            )),
            failed: u64::from(status.is_server_error()),
            busy: took,
        };
        self.shard(tenant).lock().entry(tenant).or_default().add(&more);
    }

    /// Takes what was counted since the last taking.
    pub(crate) fn take(self: &Arc<Self>) -> Taken {
        let mut uses: Vec<_> = self
            .shards
            .iter()
            .flat_map(|shard| std::mem::take(&mut *shard.lock()))
            .collect();
        // Whoever writes several rows writes them in one order.
        uses.sort_unstable_by_key(|(tenant, _)| *tenant);
        let now = Instant::now();
        let over = now - std::mem::replace(&mut *self.since.lock(), now);
        *self.last.lock() = RecentUse {
            over,
            tenants: uses.as_slice().into(),
        };
        Taken {
            meter: self.clone(),
            uses,
        }
    }

    /// What the last taking gave; before the first, what was counted so far.
    pub(crate) fn last(&self) -> RecentUse {
        let last = self.last.lock().clone();
        if !last.over.is_zero() {
            return last;
        }
        let all = self.shards.iter().flat_map(|shard| shard.lock().clone());
        RecentUse {
            over: self.since.lock().elapsed(),
            tenants: all.collect(),
        }
    }

    fn shard(&self, tenant: TenantId) -> &Mutex<TenantMap<Use>> {
        // Other bits than those by which the map finds its place.
        let byte = tenant.as_uuid().as_bytes()[15];
        &self.shards[usize::from(byte) % SHARDS]
    }
}

/// Counts that were taken. What was not [kept](Self::kept) when it is dropped is counted again.
pub(crate) struct Taken {
    meter: Arc<Meter>,
    uses: Vec<(TenantId, Use)>,
}

impl Taken {
    pub(crate) fn uses(&self) -> &[(TenantId, Use)] {
        &self.uses
    }

    /// The first `number` of them are written down.
    pub(crate) fn kept(&mut self, number: usize) {
        self.uses.drain(..number.min(self.uses.len()));
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        for (tenant, used) in self.uses.drain(..) {
            self.meter.shard(tenant).lock().entry(tenant).or_default().add(&used);
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn id(n: u128) -> TenantId {
        TenantId::from_uuid(Uuid::from_u128(n))
    }

    #[test]
    fn what_is_taken_is_counted_once_and_what_is_not_kept_again() {
        let meter = Arc::new(Meter::default());
        let second = Duration::from_secs(1);
        for (tenant, status) in [(1, 200), (2, 503), (1, 429), (1, 404)] {
            meter.note(id(tenant), StatusCode::from_u16(status).unwrap(), second);
        }
        let mut taken = meter.take();
        let one = Use {
            requests: 3,
            limited: 1,
            failed: 0,
            busy: 3 * second,
        };
        let two = Use {
            requests: 1,
            limited: 0,
            failed: 1,
            busy: second,
        };
        assert_eq!(taken.uses(), [(id(1), one), (id(2), two)]);
        assert_eq!(*meter.last().tenants, [(id(1), one), (id(2), two)]);
        taken.kept(1);
        drop(taken);
        meter.note(id(2), StatusCode::OK, second);
        let again = meter.take();
        assert_eq!(
            again.uses(),
            [(
                id(2),
                Use {
                    requests: 2,
                    busy: 2 * second,
                    ..two
                }
            )]
        );
    }
}
