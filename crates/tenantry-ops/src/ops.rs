//! The use cases' common ground.

use std::sync::Arc;

use tenantry_catalog::Catalog;
use tenantry_engine::isolate::Derived;
use tokio::sync::OnceCell;

use crate::{FleetConfig, IdentityConfig, at_hand::AtHand, password::Hasher, runner::Runner};

/// All use cases, spread over files by verb. Cheap to clone.
#[derive(Clone)]
pub struct Ops(Arc<Inner>);

struct Inner {
    catalog: Catalog,
    identity: IdentityConfig,
    fleet: FleetConfig,
    runner: Runner,
    derived: OnceCell<Arc<Derived>>,
    hasher: Hasher,
    at_hand: AtHand,
}

impl Ops {
    /// Use cases on this catalog.
    pub fn new(catalog: Catalog, identity: IdentityConfig) -> Self {
        Self::with_fleet(catalog, identity, FleetConfig::default())
    }

    /// The same with a fleet of one's own configuration.
    pub fn with_fleet(catalog: Catalog, identity: IdentityConfig, fleet: FleetConfig) -> Self {
        Self(Arc::new(Inner {
            catalog,
            identity,
            runner: Runner::new(fleet.operations_max),
            fleet,
            derived: OnceCell::new(),
            hasher: Hasher::new(),
            at_hand: AtHand::default(),
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

    /// What this installation decides about its fleet.
    pub fn fleet(&self) -> &FleetConfig {
        &self.0.fleet
    }

    pub(crate) fn derived_cell(&self) -> &OnceCell<Arc<Derived>> {
        &self.0.derived
    }

    pub(crate) fn runner(&self) -> &Runner {
        &self.0.runner
    }

    pub(crate) fn at_hand(&self) -> &AtHand {
        &self.0.at_hand
    }

    pub(crate) fn hasher(&self) -> &Hasher {
        &self.0.hasher
    }
}
