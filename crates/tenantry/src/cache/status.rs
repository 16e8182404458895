//! What the cache did, for metrics.

use std::sync::atomic::{AtomicU64, Ordering};

/// How the cache stands and what it has counted since the start. What is read in this process is not counted: counting would cost
/// as much as reading.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct CacheStatus {
    /// Values in this process.
    pub entries: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Values that were computed.
    pub computed: u64,
    /// Values that came from Redis.
    pub from_redis: u64,
    /// Values in Redis that were another tenant's or another key's: somebody moves them about there.
    pub foreign: u64,
    /// Values in Redis that were not what was written.
    pub mangled: u64,
    /// How often Redis did not answer, or not in time.
    pub redis_failures: u64,
    /// Where Redis is.
    pub redis: RedisState,
}

/// Where Redis is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum RedisState {
    /// None is configured.
    #[default]
    None,
    /// Not in use yet, or away; it is looked for again by the next call after the pause.
    Away,
    /// In use.
    Connected,
}

/// What is counted.
#[derive(Default)]
pub(super) struct Counters {
    pub(super) computed: AtomicU64,
    pub(super) from_redis: AtomicU64,
    pub(super) foreign: AtomicU64,
    pub(super) mangled: AtomicU64,
    pub(super) redis_failures: AtomicU64,
}

/// One more.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Counters {
    pub(super) fn status(&self) -> CacheStatus {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        CacheStatus {
            computed: read(&self.computed),
            from_redis: read(&self.from_redis),
            foreign: read(&self.foreign),
            mangled: read(&self.mangled),
            redis_failures: read(&self.redis_failures),
            ..CacheStatus::default()
        }
    }
}
