//! A connection of another driver that is lent, and how one is closed.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::runtime::Handle;

use super::{Driver, pool::ForeignPool, session::Session, silence::Silence};
use crate::turns::Turn;

/// A connection that is lent, with its transaction open. Dropping it closes the connection; only what came to its end is
/// given back.
pub(super) struct ForeignLease<D: Driver> {
    lent: Option<(Session<D>, Turn)>,
    pool: Arc<ForeignPool<D>>,
    /// When the transaction has to have ended.
    until: Instant,
}

impl<D: Driver> Drop for ForeignLease<D> {
    fn drop(&mut self) {
        if let Some((session, turn)) = self.lent.take() {
            abandon(session, turn);
        }
    }
}

impl<D: Driver> ForeignLease<D> {
    pub(super) fn new(session: Session<D>, pool: Arc<ForeignPool<D>>, turn: Turn) -> Self {
        let limit = pool.config.transaction_timeout;
        let until = Instant::now() + limit;
        session.seat.lend_for(limit);
        Self {
            lent: Some((session, turn)),
            pool,
            until,
        }
    }

    pub(super) fn driver(&mut self) -> Option<&mut D> {
        let (session, _) = self.lent.as_mut()?;
        Some(&mut session.driver)
    }

    /// The transaction came to its end.
    pub(super) fn give_back(mut self, tainted: bool) {
        let Some((session, turn)) = self.lent.take() else {
            return;
        };
        session.seat.given_back();
        if tainted {
            say_good_bye(session, Some(turn));
        } else {
            self.pool.put_back(session, turn);
        }
    }

    /// No connection that is open by now is lent again.
    pub(super) fn all_stale(&self) {
        self.pool.all_stale();
    }

    pub(super) fn statement_timeout(&self) -> Duration {
        self.pool.config.statement_timeout
    }

    /// What is told of a server that has fallen silent.
    pub(super) fn silence(&self) -> Option<Silence> {
        let (session, _) = self.lent.as_ref()?;
        Some(session.silence().clone())
    }

    /// When the transaction has to have ended, and how long it may last.
    pub(super) fn until(&self) -> (Instant, Duration) {
        (self.until, self.pool.config.transaction_timeout)
    }
}

/// Closes an idle connection; its user's turn, if it holds one, is over when the server has ended its side.
pub(super) fn say_good_bye<D: Driver>(session: Session<D>, turn: Option<Turn>) {
    if let Some(leaving) = session.leaving() {
        leaving.begins();
    }
    if let Ok(runtime) = Handle::try_current() {
        runtime.spawn(async move {
            session.close().await;
            drop(turn);
        });
    }
}

/// Closes a connection that may be in the middle of something, at once; its user's turn is over when the server has ended its side,
/// or a tenant that gives up what it began would have more at work there than it may.
pub(super) fn abandon<D: Driver>(session: Session<D>, turn: Turn) {
    if let Some(leaving) = session.leaving() {
        leaving.begins();
    }
    let relay = session.abandon();
    if let Ok(runtime) = Handle::try_current() {
        runtime.spawn(async move {
            relay.ended().await;
            drop(turn);
        });
    }
}
