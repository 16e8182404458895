//! The cache's bounds.

use std::time::Duration;

#[cfg(feature = "redis")]
use secrecy::SecretString;

/// How long and how much is kept.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CacheConfig {
    /// How long a value is kept where nothing else is said; never longer than a day.
    pub ttl: Duration,
    /// How long this process believes what it holds without asking Redis, where there is one: what another process changed
    /// is seen here after this time at the latest. Nothing has to be delivered for that, so nothing can get lost.
    pub local_ttl: Duration,
    /// How many bytes this process keeps for all tenants.
    pub bytes_max: u64,
    /// How many of them for one tenant: its own oldest values make room, never another tenant's.
    pub tenant_bytes_max: u64,
    /// The largest value, as JSON.
    pub value_bytes_max: usize,
    /// Where values are kept for all processes.
    #[cfg(feature = "redis")]
    pub redis: Option<RedisConfig>,
}

/// The longest life of a value.
pub(super) const TTL_MAX: Duration = Duration::from_secs(24 * 3600);

impl Default for CacheConfig {
    fn default() -> Self {
        const MIB: u64 = 1024 * 1024;
        Self {
            ttl: Duration::from_secs(300),
            local_ttl: Duration::from_secs(1),
            bytes_max: 64 * MIB,
            tenant_bytes_max: 8 * MIB,
            value_bytes_max: 1024 * 1024,
            #[cfg(feature = "redis")]
            redis: None,
        }
    }
}

/// The Redis that all processes share.
#[cfg(feature = "redis")]
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RedisConfig {
    /// `redis://user:password@host:port/database`.
    pub url: SecretString,
    /// How long an answer is waited for before Redis counts as away.
    pub timeout: Duration,
    /// How long it is then left alone.
    pub pause: Duration,
    /// How many bytes one tenant may have there: what ends first makes room.
    pub tenant_bytes_max: u64,
}

#[cfg(feature = "redis")]
impl RedisConfig {
    /// The usual patience and bounds.
    pub fn new(url: impl Into<SecretString>) -> Self {
        Self {
            url: url.into(),
            // Far above a round trip in one data centre, and below what a person notices.
            timeout: Duration::from_millis(100),
            pause: Duration::from_secs(1),
            tenant_bytes_max: 64 * 1024 * 1024,
        }
    }
}
