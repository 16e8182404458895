//! How a server lives and stops: what its routes and layers have to know of it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use crate::metrics::FleetFigures;

/// A server's state. Cheap to clone: a handle.
#[derive(Clone, Default, Debug)]
pub(crate) struct Life(Arc<State>);

#[derive(Default, Debug)]
struct State {
    draining: AtomicBool,
    /// Requests that were ended because the time for them was over.
    cut: AtomicUsize,
    connections: AtomicUsize,
    fleet: FleetFigures,
}

/// A client's connection.
pub(crate) struct HeldConnection(Life);

impl Drop for HeldConnection {
    fn drop(&mut self) {
        self.0.0.connections.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Life {
    /// From here on nothing new shall come.
    pub(crate) fn drain(&self) {
        self.0.draining.store(true, Ordering::Release);
    }

    /// Whether the server stops.
    pub(crate) fn is_draining(&self) -> bool {
        self.0.draining.load(Ordering::Acquire)
    }

    /// A request held on and was ended.
    pub(crate) fn note_cut(&self) {
        self.0.cut.fetch_add(1, Ordering::AcqRel);
    }

    /// How many did.
    pub(crate) fn cut(&self) -> usize {
        self.0.cut.load(Ordering::Acquire)
    }

    /// A connection is there as long as this is.
    pub(crate) fn hold_connection(&self) -> HeldConnection {
        self.0.connections.fetch_add(1, Ordering::AcqRel);
        HeldConnection(self.clone())
    }

    /// How many connections there are.
    pub(crate) fn connections(&self) -> usize {
        self.0.connections.load(Ordering::Acquire)
    }

    /// Figures of the fleet, for metrics.
    pub(crate) fn fleet(&self) -> &FleetFigures {
        &self.0.fleet
    }
}
