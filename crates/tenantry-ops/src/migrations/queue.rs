//! What a wave has left to do on one server, and whether that answers.

use std::collections::VecDeque;

use parking_lot::Mutex;
use tenantry_catalog::fleet_state::SiteState;

use super::answers::Answers;

/// The schemas that are left on one server.
pub(super) struct Queue {
    left: Mutex<VecDeque<SiteState>>,
    /// A server that does not answer is given up for the wave.
    pub(super) answers: Answers,
}

impl Queue {
    pub(super) fn new(sites: Vec<SiteState>) -> Self {
        Self {
            left: Mutex::new(sites.into()),
            answers: Answers::default(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.left.lock().len()
    }

    pub(super) fn pop(&self) -> Option<SiteState> {
        self.left.lock().pop_front()
    }

    pub(super) fn push(&self, sites: Vec<SiteState>) {
        self.left.lock().extend(sites);
    }

    pub(super) fn clear(&self) {
        self.left.lock().clear();
    }
}
