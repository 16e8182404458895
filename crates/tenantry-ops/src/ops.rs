//! The use cases' common ground.

use std::sync::Arc;

use tenantry_catalog::Catalog;

use crate::{IdentityConfig, password::Hasher};

/// All use cases, spread over files by verb. Cheap to clone.
#[derive(Clone)]
pub struct Ops(Arc<Inner>);

struct Inner {
    catalog: Catalog,
    identity: IdentityConfig,
    hasher: Hasher,
}

impl Ops {
    /// Use cases on this catalog.
    pub fn new(catalog: Catalog, identity: IdentityConfig) -> Self {
        Self(Arc::new(Inner {
            catalog,
            identity,
            hasher: Hasher::new(),
        }))
    }

    /// The catalog.
    pub fn catalog(&self) -> &Catalog {
        &self.0.catalog
    }

    /// What this installation decides about identity.
    pub fn identity(&self) -> &IdentityConfig {
        &self.0.identity
    }

    pub(crate) fn hasher(&self) -> &Hasher {
        &self.0.hasher
    }
}
