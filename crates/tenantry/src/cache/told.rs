//! What the catalog tells this process of tenants, for the values that it holds of them.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tenantry_core::TenantId;

use super::{Cache, shared::Inner};

/// The caches of a handle and its clones, which end with those.
///
/// Redis tells nobody that something was purged there, and there may be none: what another process does to a tenant, the catalog tells.
#[derive(Clone, Default)]
pub(crate) struct Caches(Arc<Mutex<Vec<Weak<Inner>>>>);

impl Caches {
    /// From now on this one is told too.
    pub(crate) fn add(&self, cache: &Cache) {
        let added = Arc::downgrade(&cache.0);
        let mut caches = self.0.lock();
        caches.retain(|cache| cache.strong_count() > 0 && !cache.ptr_eq(&added));
        caches.push(added);
    }

    /// A tenant has changed: it may be purged, restored or moved by now.
    pub(crate) fn forget(&self, tenant: TenantId) {
        for cache in self.living() {
            cache.local.purge(tenant);
        }
    }

    /// Any tenant may have changed.
    pub(crate) fn forget_all(&self) {
        for cache in self.living() {
            cache.local.purge_all();
        }
    }

    fn living(&self) -> Vec<Arc<Inner>> {
        self.0.lock().iter().filter_map(Weak::upgrade).collect()
    }
}
