//! Calls that only read, and may read from a replica.

use std::{
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use tenantry_wire::{Error as WireError, Outcome, Params};

use crate::{
    Caller, Error, Pools, RowStream,
    copy::CopyOut,
    counts,
    member::Lease,
    placements::Located,
    pools::{Patience, Verdict, verdict},
    replica::Freshness,
};

/// How long a call waits for a replica's connection before it takes one to the primary, for which it may wait on.
const REPLICA_WAIT: Duration = Duration::from_millis(500);

/// What is asked.
#[derive(Clone, Copy)]
enum Asked<'a> {
    Query(&'a str, Params<'a>),
    Stream(&'a str, Params<'a>),
    CopyOut(&'a str),
}

/// What it gave.
enum Answered {
    Query(Outcome),
    Stream(RowStream),
    CopyOut(CopyOut),
}

impl Asked<'_> {
    fn sql(&self) -> &str {
        match self {
            Self::Query(sql, _) | Self::Stream(sql, _) | Self::CopyOut(sql) => sql,
        }
    }
}

impl Pools {
    /// Runs a statement that only reads, at a replica that shows what is asked for; where none is known to, or it fails there
    /// for what it is, at the primary. In either place the transaction is read-only.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query); 25006 for a statement that would write.
    ///
    /// # Cancel safety
    ///
    /// When dropped, the statement is cancelled and its connection closed.
    pub async fn read(
        &self,
        caller: &Caller,
        freshness: &Freshness,
        sql: &str,
        params: Params<'_>,
    ) -> Result<Outcome, Error> {
        match self
            .read_somewhere(caller, freshness, Asked::Query(sql, params))
            .await?
        {
            Answered::Query(outcome) => Ok(outcome),
            _ => Err(unexpected()),
        }
    }

    /// The same with rows that are read one by one. Once the first is there, a failure is the caller's to repeat.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    ///
    /// # Cancel safety
    ///
    /// As [`read`](Self::read), for the stream too.
    pub async fn read_stream(
        &self,
        caller: &Caller,
        freshness: &Freshness,
        sql: &str,
        params: Params<'_>,
    ) -> Result<RowStream, Error> {
        match self
            .read_somewhere(caller, freshness, Asked::Stream(sql, params))
            .await?
        {
            Answered::Stream(stream) => Ok(stream),
            _ => Err(unexpected()),
        }
    }

    /// The same for `copy … to stdout`.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    ///
    /// # Cancel safety
    ///
    /// As [`read`](Self::read), for the data too.
    pub async fn read_copy(&self, caller: &Caller, freshness: &Freshness, sql: &str) -> Result<CopyOut, Error> {
        match self.read_somewhere(caller, freshness, Asked::CopyOut(sql)).await? {
            Answered::CopyOut(data) => Ok(data),
            _ => Err(unexpected()),
        }
    }

    async fn read_somewhere(
        &self,
        caller: &Caller,
        freshness: &Freshness,
        asked: Asked<'_>,
    ) -> Result<Answered, Error> {
        if let Some((located, lease)) = self.lease_of_replica(caller, freshness).await {
            match self.ask(caller, &located, lease, asked).await {
                Ok(answered) => {
                    counts::read_at_replica();
                    return Ok(answered);
                }
                Err((error, _)) if is_the_statements(&error) => return Err(error),
                Err((error, mut lease)) => {
                    if let Error::Statement(error) = &error {
                        put_right(&mut lease, verdict(error));
                    }
                    // Nobody waits while holding a connection.
                    drop(lease);
                    counts::fell_back();
                    tracing::debug!(%error, "a read failed at a replica and is repeated at its primary");
                }
            }
        }
        counts::read_at_primary();
        self.read_at_primary(caller, asked).await
    }

    /// A connection to a replica that shows what is asked for. What stands in the way of one is told by the primary, if it
    /// does there too.
    async fn lease_of_replica(&self, caller: &Caller, freshness: &Freshness) -> Option<(Arc<Located>, Lease)> {
        let located = self.locate(caller).await.ok()?;
        let watch = located.watch.as_ref()?;
        watch.wake(self.shared(), &located);
        let now = Instant::now();
        let (branch, place) = located
            .replicas
            .choose(&located.home, caller.written.at(), freshness, now)?;
        let binding = located.binding(caller);
        let lease = match branch.pool.lease_idle(&binding, now) {
            Some(lease) => lease,
            None => tokio::time::timeout(REPLICA_WAIT, branch.pool.lease(&binding))
                .await
                .ok()?
                .ok()?,
        };
        // A server that was started again, or another one at its address, is not known to be as far.
        let is_known = lease.place() == place;
        is_known.then_some((located, lease))
    }

    async fn read_at_primary(&self, caller: &Caller, asked: Asked<'_>) -> Result<Answered, Error> {
        let mut patience = Patience::of(asked.sql(), self.config().move_wait);
        loop {
            let (located, lease) = self.lease_to_read(caller).await?;
            match self.ask(caller, &located, lease, asked).await {
                Ok(answered) => return Ok(answered),
                // Elsewhere it would say that SQL has changed the session; here it is what was asked for.
                Err((error @ Error::Statement(_), _)) if is_write(&error) => return Err(error),
                Err((error, lease)) => self.reconsider(error, lease, caller, &mut patience).await?,
            }
        }
    }

    async fn ask(
        &self,
        caller: &Caller,
        located: &Arc<Located>,
        mut lease: Lease,
        asked: Asked<'_>,
    ) -> Result<Answered, (Error, Lease)> {
        let binding = tenantry_wire::Binding {
            read_only: true,
            ..located.binding(caller)
        };
        let begun = Instant::now();
        let (session, timer) = lease.parts();
        let result = match asked {
            Asked::Query(sql, params) => {
                let call = pin!(session.query(&binding, sql, params));
                let outcome = timer.limit(begun, located.statement_timeout, call).await;
                outcome.map(Begun::Query)
            }
            Asked::Stream(sql, params) => {
                let call = pin!(session.stream(&binding, sql, params));
                let reader = timer.limit(begun, located.statement_timeout, call).await;
                reader.map(Begun::Stream)
            }
            Asked::CopyOut(sql) => {
                let call = pin!(async {
                    session.copy_out(&binding, sql).await?;
                    session.next_chunk().await
                });
                let first = timer.limit(begun, located.statement_timeout, call).await;
                first.map(Begun::CopyOut)
            }
        };
        self.note_time(caller, begun, asked.sql(), &result);
        let (pools, located) = (self.clone(), located.clone());
        match result {
            Ok(Begun::Query(outcome)) => Ok(Answered::Query(outcome)),
            Ok(Begun::Stream(reader)) => Ok(Answered::Stream(RowStream::new(pools, located, lease, reader))),
            Ok(Begun::CopyOut(first)) => Ok(Answered::CopyOut(CopyOut::new(pools, located, lease, first))),
            Err(error) => Err((error, lease)),
        }
    }
}

enum Begun {
    Query(Outcome),
    Stream(tenantry_wire::RowReader),
    CopyOut(Option<bytes::Bytes>),
}

/// The statement would have written.
fn is_write(error: &Error) -> bool {
    error.database().is_some_and(|error| error.code() == "25006")
}

/// Whether a failure at a replica is the statement's own, and would be the same at the primary. Not so what may come of the replica:
/// a conflict with what it replays, a shutdown, tables that a migration has not made there yet, a fence, a lost connection.
fn is_the_statements(error: &Error) -> bool {
    let error = match error {
        Error::Statement(error) => error,
        Error::StatementTimeout(_) => return true,
        _ => return false,
    };
    match error {
        WireError::Database(database) => {
            let of_values = ["0A", "20", "21", "22", "23", "25", "2F", "38", "39", "44", "P0"];
            verdict(error) == Verdict::Final && of_values.iter().any(|class| database.code().starts_with(class))
                || database.code() == "25006"
        }
        WireError::Refused { .. }
        | WireError::Parameter { .. }
        | WireError::ParameterCount { .. }
        | WireError::TooLarge { .. }
        | WireError::Column { .. }
        | WireError::ResultTooLarge { .. }
        | WireError::UnexpectedCopy => true,
        _ => false,
    }
}

/// What a replica's refusal says about the session.
fn put_right(lease: &mut Lease, verdict: Verdict) {
    match verdict {
        Verdict::NotBound | Verdict::Tampered => {
            counts::refused(verdict);
            lease.taint();
        }
        // So it is with every token after a promotion, which is nothing to be woken for.
        Verdict::Rejected | Verdict::Ended => lease.taint(),
        Verdict::Fenced => {
            counts::refused(verdict);
            lease.unbind();
        }
        Verdict::Elsewhere | Verdict::Moving | Verdict::Suspended => counts::refused(verdict),
        Verdict::Final => {}
    }
}

fn unexpected() -> Error {
    Error::Statement(WireError::Protocol("an answer of another kind than was asked for"))
}
