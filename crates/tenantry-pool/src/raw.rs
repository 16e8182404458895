//! The raw lane: calls with SQL from outside the application's own code.
//!
//! Each call gets a connection of its own, which is closed afterwards. `discard all` and a fresh token would make it fit for
//! another tenant as far as PostgreSQL knows what a session holds; it does not know of a seed of `random()`, of what a
//! fault in the server's code has done to its process, or of what the next version adds. A call costs some milliseconds
//! more by it, which nobody notices who typed the SQL.

use std::{
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use tenantry_core::Role;
use tenantry_wire::{RawOutcome, RawParams, RawSession};
use tokio::runtime::Handle;

use crate::{
    Caller, Error, Pools,
    member::parting,
    place::{Lane, Place},
    placements::Located,
    pools::{Patience, Refresh},
    server::Seated,
    timer::Timer,
    written::Writing,
};

/// SQL from outside the application's own code: statements that take effect together, or not at all.
#[derive(Clone, Copy, Debug)]
pub struct RawScript<'a> {
    /// The statements, one in each text, with their parameters.
    pub statements: &'a [(&'a str, RawParams<'a>)],
    /// Whether it may only read; a viewer's never may more.
    pub read_only: bool,
    /// How long all of it may take, where that is less than the pool's limit.
    pub timeout: Option<Duration>,
    /// How many bytes it may give, where that is less than the pool's limit.
    pub result_bytes_max: Option<usize>,
}

/// A connection of the raw lane. Dropping it closes it, whatever it was doing.
struct RawLease {
    session: Option<Box<RawSession>>,
    place: Option<Place>,
    seated: Option<Seated>,
    writing: Option<Writing>,
    /// How long the server is waited for that is to hear of the end.
    parting: Duration,
}

impl Drop for RawLease {
    fn drop(&mut self) {
        let (Some(mut session), place, seated) = (self.session.take(), self.place.take(), self.seated.take()) else {
            return;
        };
        if let Some(place) = &place {
            place.closes();
        }
        let running = !session.connection().is_usable();
        if let (Some(writing), false) = (&mut self.writing, running) {
            writing.ended();
        }
        let limit = self.parting;
        match Handle::try_current() {
            Ok(runtime) => {
                runtime.spawn(async move {
                    let ending = async {
                        if running {
                            // A server that can't be reached notices by itself that the socket is gone.
                            let token = session.connection().cancel_token();
                            let _ = tokio::time::timeout(limit, token.cancel()).await;
                        }
                        session.end().await;
                    };
                    let _ = tokio::time::timeout(2 * limit, ending).await;
                    drop((seated, place));
                });
            }
            Err(_) => session.terminate(),
        }
    }
}

impl Pools {
    /// Runs SQL from outside the application's own code in the caller's tenant, in one transaction on a connection that
    /// serves nobody before or after.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query); nothing has taken effect then.
    ///
    /// # Cancel safety
    ///
    /// When dropped, the statement is cancelled and the connection closed. The transaction is undone, unless its commit was
    /// under way: then it is not known.
    pub async fn raw(&self, caller: &Caller, script: RawScript<'_>) -> Result<Vec<RawOutcome>, Error> {
        let limit = self.config().raw_timeout;
        let limit = script.timeout.map_or(limit, |asked| asked.min(limit));
        let bytes = self.config().raw_result_bytes_max;
        let bytes = script.result_bytes_max.map_or(bytes, |asked| asked.min(bytes));
        let read_only = script.read_only || caller.role == Role::Viewer;
        let mut patience = Patience::new(self.config().move_wait);
        let mut lease = loop {
            let (located, mut lease) = self.raw_lease(caller, bytes).await?;
            let begun = {
                let binding = located.binding(caller);
                let session = lease.session();
                let begin = pin!(session.begin(&binding, read_only));
                Timer::default().limit(Instant::now(), limit, begin).await
            };
            match begun {
                Ok(()) => break lease,
                Err(error) => {
                    // Nobody waits while holding a connection.
                    drop(lease);
                    self.reconsider(error, None, caller, &mut patience).await?;
                }
            }
        };
        let session = lease.session();
        let work = pin!(async {
            let mut outcomes = Vec::with_capacity(script.statements.len());
            for (sql, params) in script.statements {
                outcomes.push(session.run(sql, params).await?);
            }
            session.commit().await?;
            Ok(outcomes)
        });
        let begun = Instant::now();
        let done = Timer::default().limit(begun, limit, work).await;
        if begun.elapsed() >= self.config().slow_statement {
            let texts: Vec<_> = script.statements.iter().map(|(sql, _)| *sql).collect();
            self.note_time(caller, begun, &texts.join("; "), &done);
        }
        done.map_err(|error| self.conclude_raw(error))
    }

    async fn raw_lease(&self, caller: &Caller, result_bytes_max: usize) -> Result<(Arc<Located>, RawLease), Error> {
        let mut refresh = Refresh::default();
        loop {
            let located = self.locate(caller).await?;
            // SQL that nobody has read must not leave anything to who is lent the server's session next.
            located.pool.require_sessions()?;
            let opened = async {
                let place = located.pool.place(caller.tenant, Lane::Raw).await?;
                let (connection, seated) = located.pool.connect_seated().await?;
                Ok(RawLease {
                    session: Some(Box::new(RawSession::new(connection, result_bytes_max))),
                    place: Some(place),
                    seated: Some(seated),
                    writing: Some(located.writing(caller)),
                    parting: parting(self.config()),
                })
            };
            match opened.await {
                Ok(lease) => return Ok((located, lease)),
                Err(error) => self.refresh(error, caller, &located, &mut refresh).await?,
            }
        }
    }
}

impl RawLease {
    fn session(&mut self) -> &mut RawSession {
        self.session
            .as_mut()
            .expect("a lease holds its connection until it is dropped")
    }
}
