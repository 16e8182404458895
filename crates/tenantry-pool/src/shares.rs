//! This process's shares of the connections to each server, which it divides with others.
//!
//! Whoever divides is told how many connections this process has at most, and gives it a lease on a number. The rules that keep
//! the sum of all processes within the budget:
//!
//! - A larger number counts only once the source has said it; it gives only what nobody holds.
//! - A smaller number is kept to at once; the source is told that it is kept to only when the connections beyond it are gone
//!   on the server.
//! - When the lease ends unheard, the process closes what it has: idle connections at once, the others a moment later, whoever uses
//!   them. Others may take its share only after that.

use std::{
    sync::{Arc, Weak, atomic::Ordering},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use futures_util::future::join_all;
use tenantry_core::ServerId;

use crate::{pools::Shared, server::ServerPool};

/// What this process says when it renews its lease on a share.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    /// Of which server.
    pub server: ServerId,
    /// More it would not use.
    pub wanted: usize,
    /// More connections it does not have, and will not open before it is told that it may.
    pub held: usize,
    /// How long it believes the answer.
    pub lease: Duration,
    /// How long after that it may still have connections.
    pub grace: Duration,
}

/// What it may have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Share {
    /// What is its share once all others have come down to theirs.
    pub target: usize,
    /// What it may have by now.
    pub held: usize,
}

/// Why a lease was not renewed.
#[derive(Debug, thiserror::Error)]
#[error("the share of a server's connections can't be renewed: {0}")]
pub struct ShareError(pub String);

/// Divides the connections to servers among processes.
#[async_trait]
pub trait ShareSource: Send + Sync + 'static {
    /// Renews the lease, and tells what this process may have.
    ///
    /// # Errors
    ///
    /// Why nothing is known: the lease goes on to its end, and with it the share.
    async fn renew(&self, standing: Standing) -> Result<Share, ShareError>;

    /// This process has closed its connections.
    ///
    /// # Errors
    ///
    /// Why others get the share only when its lease ends.
    async fn leave(&self) -> Result<(), ShareError>;
}

/// A server whose share is kept.
struct Kept {
    id: ServerId,
    server: Arc<ServerPool>,
    /// The share is this process's own until then.
    until: Option<Instant>,
    was_cut: bool,
}

/// Keeps the shares in a task of its own, until the last handle of the pools is gone.
pub(crate) fn keep(shared: &Arc<Shared>, source: Arc<dyn ShareSource>) {
    let news = shared.placements.news.clone();
    let lease = shared.config.share_lease;
    let wanted = shared.config.server_connections_max;
    let shared = Arc::downgrade(shared);
    tokio::spawn(async move {
        let mut kept: Vec<Kept> = Vec::new();
        loop {
            // The handle is not held while waiting: this task must not keep the pools alive.
            let goes_on = take_in_new(&shared, &mut kept);
            if !goes_on {
                break;
            }
            let mut every = lease / 3;
            // All at once: one that hangs must not make the others late.
            let renewed = join_all(kept.iter_mut().map(|server| server.renew(&*source, wanted, lease))).await;
            if renewed.contains(&false) {
                every = lease / 10;
            }
            let due = kept.iter().filter_map(|server| server.next_step(lease)).min();
            let next = due.map_or(every, |due| every.min(due.saturating_duration_since(Instant::now())));
            // Dropping either arm loses nothing: a ring is kept, and the time is worked out anew.
            tokio::select! {
                () = news.notified() => {}
                () = tokio::time::sleep(next.max(Duration::from_millis(1))) => {}
            }
        }
        let open: Vec<_> = kept.iter().map(|server| (server.id, server.server.clone())).collect();
        for (_, server) in &open {
            server.set_share(0);
        }
        // The leases go on meanwhile; whoever uses a connection for longer has it cut.
        if tokio::time::timeout(lease / 2, until_closed(&open)).await.is_err() {
            open.iter().for_each(|(_, server)| server.cut_all());
            let _ = tokio::time::timeout(lease / 4, until_closed(&open)).await;
        }
        if let Err(error) = source.leave().await {
            // Nothing is wrong then: the program may have ended what it ran on before.
            tracing::info!(%error, "others get this process's share when its lease ends");
        }
        if let Some(shared) = shared.upgrade() {
            shared.closing.is_done.store(true, Ordering::Release);
            shared.closing.done.notify_waiters();
        }
    });
}

/// Waits until no connections are left.
pub(crate) async fn until_closed(servers: &[(ServerId, Arc<ServerPool>)]) {
    while servers.iter().any(|(_, server)| server.status().open > 0) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Whether the pools are still in use; servers that were met for the first time are kept too.
fn take_in_new(shared: &Weak<Shared>, kept: &mut Vec<Kept>) -> bool {
    let Some(shared) = shared.upgrade() else { return false };
    let servers = shared.placements.servers();
    // Of one that is gone, a replica, the lease ends by itself.
    kept.retain(|kept| servers.iter().any(|(_, server)| Arc::ptr_eq(server, &kept.server)));
    for (id, server) in servers {
        if !kept.iter().any(|kept| kept.id == id) {
            kept.push(Kept {
                id,
                server,
                until: None,
                was_cut: false,
            });
        }
    }
    !shared.closing.asked.load(Ordering::Acquire)
}

impl Kept {
    /// Renews the lease, and does what the answer asks for; whether there was one.
    async fn renew(&mut self, source: &dyn ShareSource, wanted: usize, lease: Duration) -> bool {
        let server = self.server.clone();
        // Before the question, which may hang.
        self.give_up_in_time(&server, lease);
        loop {
            // Whatever is heard from here on, no more than this is opened.
            let status = server.status();
            let held = status.share.max(status.open);
            let asked_at = Instant::now();
            let standing = Standing {
                server: self.id,
                wanted,
                held,
                lease,
                grace: lease / 3,
            };
            let limit = match self.until {
                Some(until) => until.saturating_duration_since(asked_at).max(lease / 10),
                None => lease,
            };
            let share = match tokio::time::timeout(limit.min(lease / 3), source.renew(standing)).await {
                Ok(Ok(share)) => share,
                Ok(Err(error)) => {
                    tracing::warn!(%error, "a lease is not renewed");
                    self.give_up_in_time(&server, lease);
                    return false;
                }
                Err(_) => {
                    tracing::warn!("a lease is not renewed in time");
                    self.give_up_in_time(&server, lease);
                    return false;
                }
            };
            // Counted from before the question: the source counts from later.
            self.until = Some(asked_at + lease);
            self.was_cut = false;
            let now = share.target.min(share.held);
            server.set_share(now);
            // What was closed at once is told at once, and what is closed later by the ring that its end makes.
            let status = server.status();
            if now >= held || status.open.max(now) >= held {
                return true;
            }
        }
    }

    /// Without a lease there is no share, and a moment later no connection.
    fn give_up_in_time(&mut self, server: &Arc<ServerPool>, lease: Duration) {
        let now = Instant::now();
        let Some(until) = self.until else { return };
        if now >= until {
            server.set_share(0);
        }
        if now >= until + lease / 6 && !std::mem::replace(&mut self.was_cut, true) {
            tracing::error!("the share of a server's connections was not confirmed in time: all of them are closed");
            server.cut_all();
        }
    }

    /// When [`give_up_in_time`](Self::give_up_in_time) has something to do, if nothing is heard.
    fn next_step(&self, lease: Duration) -> Option<Instant> {
        let until = self.until?;
        let now = Instant::now();
        match now < until {
            true => Some(until),
            false => (!self.was_cut).then_some(until + lease / 6),
        }
    }
}
