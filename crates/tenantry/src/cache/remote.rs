//! The place that all processes share, seen from the cache: there may be none.

use std::{sync::Arc, time::Instant};

#[cfg(not(feature = "redis"))]
use tenantry_core::TenantId;

#[cfg(not(feature = "redis"))]
use super::status::RedisState;
use super::{CacheConfig, CacheError, status::Counters};

#[cfg(feature = "redis")]
pub(super) use super::redis::Remote;

/// What the shared place said.
pub(super) struct Found {
    /// The value, as JSON.
    pub(super) text: Option<Box<str>>,
    /// What has to be the same still when a computed value is stored; none where the place did not answer.
    pub(super) seen: Option<Seen>,
}

/// What stood there, and when.
#[cfg_attr(not(feature = "redis"), expect(dead_code, reason = "only Redis remembers"))]
pub(super) struct Seen {
    pub(super) at: Instant,
    pub(super) generation: Vec<u8>,
    pub(super) raw: Vec<u8>,
    pub(super) deletion: Vec<u8>,
}

/// What is made of the configuration: none, where it names no Redis.
pub(super) fn open(config: &CacheConfig, counters: &Arc<Counters>) -> Result<Option<Remote>, CacheError> {
    #[cfg(feature = "redis")]
    if let Some(redis) = &config.redis {
        return Ok(Some(Remote::new(redis.clone(), Arc::clone(counters))?));
    }
    let _ = (config, counters);
    Ok(None)
}

/// There is none without the feature.
#[cfg(not(feature = "redis"))]
#[derive(Clone)]
pub(super) enum Remote {}

#[cfg(not(feature = "redis"))]
impl Remote {
    pub(super) async fn fetch(&self, _: TenantId, _: &str) -> Found {
        match *self {}
    }

    pub(super) async fn keep(&self, _: TenantId, _: &str, _: &str, _: std::time::Duration, _: &Seen) {
        match *self {}
    }

    pub(super) async fn set(&self, _: TenantId, _: &str, _: &str, _: std::time::Duration) -> bool {
        match *self {}
    }

    pub(super) async fn delete(&self, _: TenantId, _: &str) -> bool {
        match *self {}
    }

    pub(super) async fn purge(&self, _: TenantId) -> bool {
        match *self {}
    }

    pub(super) async fn count(&self, _: TenantId) -> Option<u64> {
        match *self {}
    }

    pub(super) fn state(&self) -> RedisState {
        match *self {}
    }
}
