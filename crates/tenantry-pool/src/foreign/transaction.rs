//! A transaction of another driver.

use tenantry_wire::{Error as WireError, admit, leaves_traces};
use tokio::time::timeout;

use super::{Call, Driver, lease::ForeignLease};
use crate::{Error, pools::meaning, written::Writing};

/// A transaction that was begun in its caller's tenant. Dropping it undoes it, by closing the connection.
pub struct ForeignTransaction<D: Driver> {
    lease: ForeignLease<D>,
    call: Call,
    depth: u32,
    writing: Writing,
}

impl<D: Driver> ForeignTransaction<D> {
    pub(super) fn new(lease: ForeignLease<D>, writing: Writing) -> Self {
        let call = Call {
            until: Some(lease.until()),
            silence: lease.silence(),
            ..Call::default()
        };
        Self {
            lease,
            call,
            depth: 0,
            writing,
        }
    }

    /// The connection for one statement of the application's, which is looked at first; and where its end has to be told.
    ///
    /// # Errors
    ///
    /// When the statement does not belong here, an earlier one was abandoned, or the transaction was ended for its age.
    pub fn call(&mut self, sql: &str) -> Result<(&mut D, &mut Call), Error> {
        if self.call.in_doubt {
            return Err(self.lost());
        }
        admit(sql).map_err(Error::Statement)?;
        self.call.tainted |= leaves_traces(sql);
        let driver = self.lease.driver().ok_or(Error::Statement(WireError::Unusable))?;
        Ok((driver, &mut self.call))
    }

    /// Marks a place to go back to.
    ///
    /// # Errors
    ///
    /// What PostgreSQL says.
    ///
    /// # Cancel safety
    ///
    /// When dropped, the transaction is lost: every later call on it fails, and dropping it closes the connection.
    pub async fn savepoint(&mut self) -> Result<(), Error> {
        self.depth += 1;
        self.step(&format!("savepoint tenantry_{}", self.depth)).await
    }

    /// Keeps what was done since the last savepoint.
    ///
    /// # Errors
    ///
    /// What PostgreSQL says.
    ///
    /// # Cancel safety
    ///
    /// As [`savepoint`](Self::savepoint).
    pub async fn release(&mut self) -> Result<(), Error> {
        let sql = format!("release savepoint tenantry_{}", self.depth);
        self.depth = self.depth.saturating_sub(1);
        self.step(&sql).await
    }

    /// Undoes what was done since the last savepoint, and goes on.
    ///
    /// # Errors
    ///
    /// What PostgreSQL says.
    ///
    /// # Cancel safety
    ///
    /// As [`savepoint`](Self::savepoint).
    pub async fn undo(&mut self) -> Result<(), Error> {
        let sql = format!("rollback to savepoint tenantry_{}", self.depth);
        self.depth = self.depth.saturating_sub(1);
        self.step(&sql).await?;
        self.call.failed = false;
        Ok(())
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
        if self.call.unread {
            // A COMMIT of a transaction that failed is a ROLLBACK, and no error.
            let _ = self.step("select").await;
        }
        if self.call.failed {
            self.step("rollback").await?;
            self.give_back();
            return Err(Error::Statement(WireError::TransactionFailed));
        }
        let done = self.step("commit").await;
        self.give_back();
        done
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
        if self.call.in_doubt {
            // Dropped, which closes the connection: that undoes it.
            return Ok(());
        }
        let done = self.step("rollback").await;
        self.give_back();
        done
    }

    fn lost(&self) -> Error {
        let by_age = self.call.ended_for_its_age();
        by_age.unwrap_or(Error::Statement(WireError::Unusable))
    }

    async fn step(&mut self, sql: &str) -> Result<(), Error> {
        if self.call.in_doubt {
            return Err(self.lost());
        }
        let limit = self.lease.statement_timeout();
        let driver = self.lease.driver().ok_or(Error::Statement(WireError::Unusable))?;
        self.call.begins();
        match timeout(limit, driver.run(sql)).await {
            Ok(Ok(())) => {
                self.call.ends();
                Ok(())
            }
            Ok(Err(error)) => match error.database() {
                Some(refused) => {
                    self.call.refused(refused);
                    Err(meaning(error))
                }
                None => Err(self.call.ended_for_its_age().unwrap_or_else(|| meaning(error))),
            },
            Err(_) => Err(Error::StatementTimeout(limit)),
        }
    }

    /// After its end. What is in doubt is closed.
    fn give_back(mut self) {
        if self.call.stale {
            self.lease.all_stale();
        }
        if !self.call.in_doubt {
            self.writing.ended();
            self.lease.give_back(self.call.tainted || self.call.stale);
        }
    }
}
