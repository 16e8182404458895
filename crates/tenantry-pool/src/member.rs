//! A connection of a pool, and the lease under which it is lent.

use std::{
    ops::{Deref, DerefMut},
    sync::Arc,
    time::{Duration, Instant},
};

use tenantry_wire::Session;
use tokio::runtime::Handle;

use crate::{database::DatabasePool, timer::Timer};

/// How long a cancelled statement's connection is waited for before it is closed all the same.
pub(crate) const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection with what the pool has to know of it.
pub(crate) struct Member {
    pub(crate) session: Session,
    pub(crate) timer: Timer,
    /// Closed from here on, as soon as nobody uses it.
    pub(crate) dies: Instant,
    pub(crate) idle_since: Instant,
}

/// A connection that is lent. Dropping it gives it back if nothing is open or left on it, and closes it otherwise.
pub(crate) struct Lease {
    member: Option<Box<Member>>,
    pool: Arc<DatabasePool>,
}

impl Lease {
    pub(crate) fn new(member: Box<Member>, pool: Arc<DatabasePool>) -> Self {
        Self {
            member: Some(member),
            pool,
        }
    }

    /// The session, and the timer that limits its calls.
    pub(crate) fn parts(&mut self) -> (&mut Session, &mut Timer) {
        let member = self
            .member
            .as_mut()
            .expect("a lease holds its connection until it is dropped");
        (&mut member.session, &mut member.timer)
    }

    /// Takes the connection back from a lease that reached nobody.
    pub(crate) fn take(mut self) -> Option<Box<Member>> {
        self.member.take()
    }
}

impl Deref for Lease {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self
            .member
            .as_ref()
            .expect("a lease holds its connection until it is dropped")
            .session
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut Session {
        &mut self
            .member
            .as_mut()
            .expect("a lease holds its connection until it is dropped")
            .session
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(member) = self.member.take() else { return };
        if member.session.is_clean() {
            self.pool.put_back(member);
        } else {
            close(self.pool.clone(), member);
        }
    }
}

/// Closes a connection. What still runs on it is cancelled first, or it would run on without a reader; only then the
/// place in the pool is free, so that the bound on connections holds for the server too.
pub(crate) fn close(pool: Arc<DatabasePool>, mut member: Box<Member>) {
    let running = !member.session.connection().is_usable();
    match Handle::try_current() {
        Ok(runtime) if running => {
            runtime.spawn(async move {
                let token = member.session.connection().cancel_token();
                // A server that can't be reached notices by itself that the socket is gone.
                let _ = tokio::time::timeout(CANCEL_TIMEOUT, token.cancel()).await;
                drop(member);
                pool.closed_one();
            });
        }
        _ => {
            member.session.terminate();
            pool.closed_one();
        }
    }
}
