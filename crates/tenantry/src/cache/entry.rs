//! A value in this process.

use std::{
    any::Any,
    sync::{Arc, OnceLock},
    time::Duration,
};

use serde::de::DeserializeOwned;

use super::shelf::Shelf;

/// A value in this process: its JSON, and what was read from it, so that it is read once.
pub(super) struct Entry {
    text: Box<str>,
    decoded: OnceLock<Arc<dyn Any + Send + Sync>>,
    pub(super) ttl: Duration,
    /// Whose it is, and when that tenant was purged last.
    pub(super) shelf: Arc<Shelf>,
    pub(super) generation: u64,
    /// Its place among the tenant's values.
    pub(super) serial: u64,
    pub(super) bytes: u64,
}

/// What an entry takes beside its texts: the entry, its places in the cache and on the shelf.
const OVERHEAD: usize = 256;

impl Entry {
    pub(super) fn new(key: &str, text: &str, ttl: Duration, shelf: Arc<Shelf>, generation: u64) -> Self {
        Self {
            text: text.into(),
            decoded: OnceLock::new(),
            ttl,
            generation,
            serial: shelf.next_serial(),
            // What was read from the text is taken to be as large as it.
            bytes: (2 * (text.len() + key.len()) + OVERHEAD) as u64,
            shelf,
        }
    }

    /// With what it was written from.
    pub(super) fn with_decoded(self, value: Arc<dyn Any + Send + Sync>) -> Self {
        let _ = self.decoded.set(value);
        self
    }

    /// Whether its tenant was not purged since.
    pub(super) fn is_valid(&self) -> bool {
        self.generation == self.shelf.generation()
    }

    /// The value as a `T`.
    pub(super) fn value<T: DeserializeOwned + Send + Sync + 'static>(&self) -> Result<Arc<T>, serde_json::Error> {
        if let Some(decoded) = self.decoded.get()
            && let Ok(value) = Arc::clone(decoded).downcast::<T>()
        {
            return Ok(value);
        }
        let value: Arc<T> = Arc::new(serde_json::from_str(&self.text)?);
        let _ = self.decoded.set(Arc::clone(&value) as _);
        Ok(value)
    }
}
