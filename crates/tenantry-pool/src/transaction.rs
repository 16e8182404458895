//! Several statements that hold together.

use std::{sync::Arc, time::Instant};

use tenantry_core::{Role, TenantDatabaseId};
use tenantry_wire::{Ahead, Outcome, Params, Savepoint};

use crate::{
    Caller, Error, Grant, Pools,
    member::Lease,
    placements::Located,
    pools::{Patience, may_be_cut},
};

/// What waits for the next statement at most: one message has to take it.
const AHEAD_MAX: usize = 64;
const AHEAD_BYTES_MAX: usize = 256 * 1024;

/// Several statements of one tenant that take effect together. Dropping it undoes them, by closing the connection.
pub struct Transaction {
    pools: Pools,
    caller: Arc<Caller>,
    located: Arc<Located>,
    /// `None` after it ended, or in the moment between two homes.
    lease: Option<Lease>,
    /// A statement was sent: the transaction can't be begun elsewhere any more.
    begun: bool,
    /// What goes out with the next statement, or with the commit.
    ahead: Vec<Ahead>,
    depth: u32,
    /// When it has to have ended.
    until: Instant,
}

impl Transaction {
    pub(crate) fn new(pools: Pools, caller: Arc<Caller>, located: Arc<Located>, mut lease: Lease) -> Self {
        lease.begin();
        let limit = pools.config().transaction_timeout;
        lease.seat_for(limit);
        Self {
            until: Instant::now() + limit,
            pools,
            caller,
            located,
            lease: Some(lease),
            begun: false,
            ahead: Vec::new(),
            depth: 0,
        }
    }

    /// What the tenant's plan gives, and what it has used up, as it was known when the transaction began.
    pub fn grant(&self) -> &Grant {
        &self.located.grant
    }

    /// Runs a statement. The first one takes BEGIN and the context along, and goes to the tenant's new home when the
    /// fence says that it moved.
    ///
    /// # Errors
    ///
    /// As [`Pools::query`]. After an error the transaction can only be rolled back, as in PostgreSQL.
    ///
    /// # Cancel safety
    ///
    /// When dropped, the transaction is lost: every later call on it fails, and dropping it closes the connection.
    pub async fn query(&mut self, sql: &str, params: Params<'_>) -> Result<Outcome, Error> {
        let mut patience = Patience::new(self.pools.config().move_wait);
        loop {
            let lease = self.lease.as_mut().ok_or_else(lost)?;
            let binding = self.located.binding(&self.caller);
            let (session, timer) = lease.parts();
            let asked_at = Instant::now();
            let call = session.query_after(&binding, &self.ahead, sql, params);
            let result = self.pools.in_plan_time(&self.located, timer, call).await;
            self.pools.note_time(&self.caller, asked_at, sql, &result);
            match result {
                Ok(outcome) => {
                    self.has_begun();
                    return Ok(outcome);
                }
                Err(error) => self.failed(error, &mut patience).await?,
            }
        }
    }

    /// Puts a call of the mechanism's own before the next statement, or before the commit, in the same round trip: its failure is
    /// told there. Many at once are sent by themselves.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query), where they are sent.
    ///
    /// # Cancel safety
    ///
    /// As [`query`](Self::query).
    pub async fn put_ahead(&mut self, call: Ahead) -> Result<(), Error> {
        self.ahead.push(call);
        let bytes: usize = self.ahead.iter().map(Ahead::bytes).sum();
        if self.ahead.len() < AHEAD_MAX && bytes < AHEAD_BYTES_MAX {
            return Ok(());
        }
        let mut patience = Patience::new(self.pools.config().move_wait);
        loop {
            let lease = self.lease.as_mut().ok_or_else(lost)?;
            let binding = self.located.binding(&self.caller);
            let (session, timer) = lease.parts();
            match self
                .pools
                .in_time(timer, session.run_ahead(&binding, &self.ahead))
                .await
            {
                Ok(()) => {
                    self.has_begun();
                    return Ok(());
                }
                Err(error) => self.failed(error, &mut patience).await?,
            }
        }
    }

    /// With which rights it runs.
    pub fn role(&self) -> Role {
        self.caller.role
    }

    fn has_begun(&mut self) {
        self.begun = true;
        self.ahead.clear();
    }

    /// `Ok` when it is worth trying again: what failed was the first, and it failed for where the tenant is.
    async fn failed(&mut self, error: Error, patience: &mut Patience) -> Result<(), Error> {
        if std::mem::replace(&mut self.begun, true) {
            return Err(self.conclude(error));
        }
        self.begin_again(error, patience).await
    }

    /// The first statement failed. When that was for the tenant's place, the transaction begins again where it is now;
    /// otherwise the error stands, in a transaction that has failed.
    async fn begin_again(&mut self, error: Error, patience: &mut Patience) -> Result<(), Error> {
        let lease = match self.lease.take() {
            Some(lease) if self.pools.is_about_place(&error) => lease,
            lease => {
                self.lease = lease;
                return Err(self.conclude(error));
            }
        };
        self.pools.reconsider(error, lease, &self.caller, patience).await?;
        let (located, mut lease) = self.pools.lease(&self.caller).await?;
        lease.begin();
        lease.seat_for(self.until.saturating_duration_since(Instant::now()));
        (self.located, self.lease, self.begun) = (located, Some(lease), false);
        Ok(())
    }

    /// Where it is, as far as is known by now.
    pub fn database(&self) -> TenantDatabaseId {
        self.located.home.placement.database
    }

    /// Marks a place to go back to.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query).
    ///
    /// # Cancel safety
    ///
    /// As [`query`](Self::query).
    pub async fn savepoint(&mut self) -> Result<(), Error> {
        self.depth += 1;
        self.step(Savepoint::Set).await
    }

    /// Keeps what was done since the last savepoint.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query).
    ///
    /// # Cancel safety
    ///
    /// As [`query`](Self::query).
    pub async fn release(&mut self) -> Result<(), Error> {
        let done = self.step(Savepoint::Release).await;
        self.depth = self.depth.saturating_sub(1);
        done
    }

    /// Undoes what was done since the last savepoint, and goes on.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query).
    ///
    /// # Cancel safety
    ///
    /// As [`query`](Self::query).
    pub async fn undo(&mut self) -> Result<(), Error> {
        // All of it came after the savepoint, which took along what came before.
        self.ahead.clear();
        let undone = self.step(Savepoint::Undo).await;
        self.depth = self.depth.saturating_sub(1);
        undone
    }

    async fn step(&mut self, step: Savepoint) -> Result<(), Error> {
        let lease = self.lease.as_mut().ok_or_else(lost)?;
        let binding = self.located.binding(&self.caller);
        let (session, timer) = lease.parts();
        let done = self
            .pools
            .in_time(timer, session.savepoint(&binding, &self.ahead, step, self.depth))
            .await;
        self.has_begun();
        done.map_err(|error| self.conclude(error))
    }

    /// What a failure means; it can't be repeated.
    fn conclude(&mut self, error: Error) -> Error {
        match &mut self.lease {
            Some(lease) => self.pools.conclude_by(self.until, error, lease),
            None if may_be_cut(&error) && Instant::now() >= self.until => {
                Error::TransactionTimeout(self.pools.config().transaction_timeout)
            }
            None => error,
        }
    }

    /// Keeps what the transaction did.
    ///
    /// # Errors
    ///
    /// When PostgreSQL refuses, or when a statement in it had failed: nothing is kept then.
    ///
    /// # Cancel safety
    ///
    /// When dropped, it is not known whether the transaction was kept.
    pub async fn commit(mut self) -> Result<(), Error> {
        let mut patience = Patience::committing(self.pools.config().move_wait);
        loop {
            let lease = self.lease.as_mut().ok_or_else(lost)?;
            let binding = self.located.binding(&self.caller);
            let (session, timer) = lease.parts();
            match self
                .pools
                .in_time(timer, session.commit_after(&binding, &self.ahead))
                .await
            {
                Ok(()) => return Ok(()),
                Err(error) => self.failed(error, &mut patience).await?,
            }
        }
    }

    /// Undoes what the transaction did.
    ///
    /// # Errors
    ///
    /// When the connection fails; the transaction is undone then too.
    ///
    /// # Cancel safety
    ///
    /// When dropped, the connection is closed, which undoes the transaction.
    pub async fn rollback(mut self) -> Result<(), Error> {
        // Without a lease there is nothing left to undo.
        let Some(lease) = self.lease.as_mut() else {
            return Ok(());
        };
        let (session, timer) = lease.parts();
        self.pools.in_time(timer, session.rollback()).await
    }
}

fn lost() -> Error {
    Error::Statement(tenantry_wire::Error::Unusable)
}
