//! What a wave has left to do on one server, and whether that answers.

use std::collections::VecDeque;

use parking_lot::Mutex;
use tenantry_catalog::fleet_state::SiteState;
use tenantry_engine::admin::AdminError;

use crate::runner::{Failure, UNREACHABLE};

/// After so many connections in a row that nobody answered, the server is given up for the wave: each may take as long as the
/// address allows, and there are thousands of schemas.
const UNANSWERED_MAX: u32 = 3;

/// The schemas that are left on one server.
pub(super) struct Queue(Mutex<Inner>);

struct Inner {
    left: VecDeque<SiteState>,
    /// How many connections nobody has answered since the last that was.
    unanswered: u32,
    /// Why, of the last.
    reason: String,
}

impl Queue {
    pub(super) fn new(sites: Vec<SiteState>) -> Self {
        Self(Mutex::new(Inner {
            left: sites.into(),
            unanswered: 0,
            reason: String::new(),
        }))
    }

    pub(super) fn len(&self) -> usize {
        self.0.lock().left.len()
    }

    pub(super) fn pop(&self) -> Option<SiteState> {
        self.0.lock().left.pop_front()
    }

    pub(super) fn push(&self, sites: Vec<SiteState>) {
        self.0.lock().left.extend(sites);
    }

    pub(super) fn clear(&self) {
        self.0.lock().left.clear();
    }

    /// Refuses at once where the server was given up.
    pub(super) fn require_answer(&self) -> Result<(), Failure> {
        let inner = self.0.lock();
        if inner.unanswered < UNANSWERED_MAX {
            return Ok(());
        }
        let message = format!(
            "not tried, since its server did not answer {UNANSWERED_MAX} times in a row: {}",
            inner.reason
        );
        Err(Failure::retry(UNREACHABLE, message))
    }

    /// Notes whether a connection was answered. That the server refuses it, or has no such database, is an answer.
    pub(super) fn heard<T>(&self, connected: Result<T, AdminError>) -> Result<T, AdminError> {
        let mut inner = self.0.lock();
        match &connected {
            Err(error) if error.is_no_answer() => {
                inner.unanswered += 1;
                inner.reason = error.to_string();
            }
            // Also where the server was given up: whoever had begun before was answered in the end.
            Ok(_) | Err(_) => inner.unanswered = 0,
        }
        connected
    }
}
