//! Calls on the pool's own connections.

use std::{pin::pin, sync::Arc, time::Instant};

use tenantry_wire::{Ahead, Outcome, Params};

use super::{Caller, Patience, Pools};
use crate::{Error, RowStream, Transaction, copy::CopyOut, member::Lease, placements::Located, slow, timer::Timer};

impl Pools {
    /// Runs a statement in the caller's tenant, in one round trip.
    ///
    /// When the fence says that the tenant moved, its placement is looked up again and the statement is run once more,
    /// at the new home: the refused one had no effect.
    ///
    /// # Errors
    ///
    /// [`Error`] says what failed and whether it is worth trying again.
    ///
    /// # Cancel safety
    ///
    /// When dropped, the statement is cancelled and its connection closed; whether it took effect is not known.
    pub async fn query(&self, caller: &Caller, sql: &str, params: Params<'_>) -> Result<Outcome, Error> {
        let now = Instant::now();
        let Some((located, mut lease)) = self.lease_at_once(caller, now) else {
            // What is rare is boxed, so that the usual call's future stays small.
            return Box::pin(self.query_patiently(None, caller, &[], sql, params)).await;
        };
        let result = {
            let binding = located.binding(caller);
            let (session, timer) = lease.parts();
            let call = pin!(session.query(&binding, sql, params));
            timer.limit(now, located.statement_timeout, call).await
        };
        self.note_time(caller, now, sql, &result);
        match result {
            Ok(outcome) => Ok(outcome),
            Err(error) => Box::pin(self.query_patiently(Some((error, lease)), caller, &[], sql, params)).await,
        }
    }

    /// The same after a call of the mechanism's own, in the same round trip: both take effect, or neither.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query).
    ///
    /// # Cancel safety
    ///
    /// As [`query`](Self::query).
    pub async fn query_after(
        &self,
        caller: &Caller,
        ahead: Ahead,
        sql: &str,
        params: Params<'_>,
    ) -> Result<Outcome, Error> {
        self.query_patiently(None, caller, &[ahead], sql, params).await
    }

    /// Waits for what it takes, and goes to the new home of a tenant that moved.
    async fn query_patiently(
        &self,
        mut failed: Option<(Error, Lease)>,
        caller: &Caller,
        ahead: &[Ahead],
        sql: &str,
        params: Params<'_>,
    ) -> Result<Outcome, Error> {
        let mut patience = Patience::of(sql, self.config().move_wait);
        loop {
            if let Some((error, lease)) = failed.take() {
                self.reconsider(error, lease, caller, &mut patience).await?;
            }
            let (located, mut lease) = self.lease(caller).await?;
            let binding = located.binding(caller);
            let (session, timer) = lease.parts();
            let begun = Instant::now();
            let call = session.query_after(&binding, ahead, sql, params);
            let result = self.in_plan_time(&located, timer, call).await;
            self.note_time(caller, begun, sql, &result);
            match result {
                Ok(outcome) => return Ok(outcome),
                Err(error) => failed = Some((error, lease)),
            }
        }
    }

    /// Runs a statement whose rows are read one by one, in bounded memory.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query).
    ///
    /// # Cancel safety
    ///
    /// As [`query`](Self::query), for the stream too.
    pub async fn stream(&self, caller: &Caller, sql: &str, params: Params<'_>) -> Result<RowStream, Error> {
        let mut patience = Patience::of(sql, self.config().move_wait);
        loop {
            let (located, mut lease) = self.lease(caller).await?;
            let binding = located.binding(caller);
            let (session, timer) = lease.parts();
            let begun = Instant::now();
            let result = self
                .in_plan_time(&located, timer, session.stream(&binding, sql, params))
                .await;
            self.note_time(caller, begun, sql, &result);
            match result {
                Ok(reader) => return Ok(RowStream::new(self.clone(), located.clone(), lease, reader)),
                Err(error) => self.reconsider(error, lease, caller, &mut patience).await?,
            }
        }
    }

    /// Runs `copy … to stdout` and gives its data piece by piece.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query).
    ///
    /// # Cancel safety
    ///
    /// As [`query`](Self::query), for the data too.
    pub async fn copy_out(&self, caller: &Caller, sql: &str) -> Result<CopyOut, Error> {
        let mut patience = Patience::new(self.config().move_wait);
        loop {
            let (located, mut lease) = self.lease(caller).await?;
            let binding = located.binding(caller);
            let (session, timer) = lease.parts();
            let call = async {
                session.copy_out(&binding, sql).await?;
                session.next_chunk().await
            };
            let begun = Instant::now();
            let result = self.in_plan_time(&located, timer, call).await;
            self.note_time(caller, begun, sql, &result);
            match result {
                Ok(first) => return Ok(CopyOut::new(self.clone(), located.clone(), lease, first)),
                Err(error) => self.reconsider(error, lease, caller, &mut patience).await?,
            }
        }
    }

    /// Begins a transaction; BEGIN and the context travel with its first statement.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves nothing behind: nothing was sent yet, and the caller's place in the queue is free.
    pub async fn begin(&self, caller: Arc<Caller>) -> Result<Transaction, Error> {
        let (located, lease) = self.lease(&caller).await?;
        Ok(Transaction::new(self.clone(), caller, located, lease))
    }

    /// A statement that took long is told.
    pub(crate) fn note_time<T>(&self, caller: &Caller, begun: Instant, sql: &str, result: &Result<T, Error>) {
        slow::note(caller, self.shared.config.slow_statement, begun, sql, result.is_err());
    }

    pub(crate) async fn in_time<T>(
        &self,
        timer: &mut Timer,
        call: impl Future<Output = Result<T, tenantry_wire::Error>>,
    ) -> Result<T, Error> {
        timer
            .limit(Instant::now(), self.shared.config.statement_timeout, pin!(call))
            .await
    }

    /// The same in the time that the tenant's plan gives, where that is less.
    pub(crate) async fn in_plan_time<T>(
        &self,
        located: &Located,
        timer: &mut Timer,
        call: impl Future<Output = Result<T, tenantry_wire::Error>>,
    ) -> Result<T, Error> {
        timer.limit(Instant::now(), located.statement_timeout, pin!(call)).await
    }
}
