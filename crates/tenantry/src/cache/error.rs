//! Why a value is not kept.

/// Why a value is not kept. What was kept under its key is gone then: it would be outdated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CacheError {
    /// The value can't be written as JSON.
    #[error("the value can't be written as JSON")]
    Value(#[source] serde_json::Error),
    /// The value is larger than [`CacheConfig::value_bytes_max`](crate::cache::CacheConfig::value_bytes_max).
    #[error("the value has {bytes} bytes as JSON, and at most {max} are kept: keep less, or raise value_bytes_max")]
    TooLarge {
        /// What it has.
        bytes: usize,
        /// What is kept.
        max: usize,
    },
    /// The address of Redis can't be read.
    #[error("the address of Redis is not of the form redis://user:password@host:port/database")]
    Address,
}
