//! A connection of a pool, and the lease under which it is lent.

use std::{
    ops::{Deref, DerefMut},
    sync::Arc,
    time::{Duration, Instant},
};

use tenantry_core::TenantId;
use tenantry_wire::Session;

use crate::{PoolConfig, database::DatabasePool, seat::Seat, server::Seated, timer::Timer, written::Written};

/// How long a cancelled statement's connection is waited for before it is closed all the same, and how long a server may take to
/// end its side of a connection.
pub(crate) const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);

/// The same where a server that opens no connection in a shorter time is not waited for: a request to stop is one too.
pub(crate) fn parting(config: &PoolConfig) -> Duration {
    config.connect_timeout.min(CANCEL_TIMEOUT)
}

/// A connection with what the pool has to know of it.
pub(crate) struct Member {
    pub(crate) session: Session,
    pub(crate) timer: Timer,
    pub(crate) seat: Arc<Seat>,
    pub(crate) _seated: Seated,
    pub(crate) opened: Instant,
    /// Closed from here on, as soon as nobody uses it.
    pub(crate) dies: Instant,
    pub(crate) idle_since: Instant,
    /// The schemas whose tables its backend remembers.
    pub(crate) touched: Vec<Arc<str>>,
}

impl Member {
    /// Notes that it serves this schema: one of those it has seen, mostly the last.
    pub(crate) fn touch(&mut self, schema: &Arc<str>) {
        let seen = self.touched.iter().rev().any(|seen| Arc::ptr_eq(seen, schema))
            || self.touched.iter().any(|seen| seen == schema);
        if !seen {
            self.touched.push(schema.clone());
        }
    }

    /// Ends the connection and waits until the server has ended its side. What still runs on it is cancelled first, or it would
    /// run on without a reader. Either is waited for as long as `limit` says.
    pub(crate) async fn end(mut self: Box<Self>, limit: Duration) {
        let running = !self.session.connection().is_usable();
        let ending = async {
            if running {
                // A server that can't be reached notices by itself that the socket is gone.
                let token = self.session.connection().cancel_token();
                let _ = tokio::time::timeout(limit, token.cancel()).await;
            }
            self.session.end().await;
        };
        let _ = tokio::time::timeout(2 * limit, ending).await;
    }
}

/// A connection that is lent. Dropping it gives it back if nothing is open or left on it, and closes it otherwise.
pub(crate) struct Lease {
    member: Option<Box<Member>>,
    pool: Arc<DatabasePool>,
    tenant: TenantId,
    /// Is told when what was done here may have been a write.
    written: Option<Arc<Written>>,
}

impl Lease {
    pub(crate) fn new(member: Box<Member>, pool: Arc<DatabasePool>, tenant: TenantId) -> Self {
        Self {
            member: Some(member),
            pool,
            tenant,
            written: None,
        }
    }

    /// What is done on the connection may be a write of these callers'.
    pub(crate) fn writes(&mut self, written: &Arc<Written>) {
        self.written = Some(written.clone());
    }

    /// The session, and the timer that limits its calls.
    pub(crate) fn parts(&mut self) -> (&mut Session, &mut Timer) {
        let member = self
            .member
            .as_mut()
            .expect("a lease holds its connection until it is dropped");
        (&mut member.session, &mut member.timer)
    }

    /// The connection is closed when it is not given back by then.
    pub(crate) fn seat_for(&self, limit: Duration) {
        if let Some(member) = &self.member {
            member.seat.lend_for(limit);
        }
    }

    /// Notes that the connection serves this schema.
    pub(crate) fn touch(&mut self, schema: &Arc<str>) {
        if let Some(member) = &mut self.member {
            member.touch(schema);
        }
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
        if let Some(written) = &self.written {
            written.note(member.session.is_clean());
        }
        self.pool.put_back(member, self.tenant);
    }
}
