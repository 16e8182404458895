//! Several queries of sqlx that hold together.

use std::fmt;

use tenantry_pool::foreign::ForeignTransaction;

use super::PgDriver;
use crate::{Error, Scope, whole::part};

/// Several queries of sqlx in one tenant that take effect together: `&mut *transaction` is the executor.
///
/// Dropping it without [`commit`](Self::commit) undoes it, by closing the connection. The connection itself is not to be
/// had: with a `&mut PgConnection` one could swap the connections of two tenants' transactions, or end the transaction and
/// go on without a context (where PostgreSQL shows nothing and refuses every write).
pub struct Transaction {
    pub(super) inner: ForeignTransaction<PgDriver>,
    /// What it was begun on.
    pub(super) scope: Scope,
    /// Workers of this process are told when it commits.
    pub(super) enqueued: bool,
}

impl Transaction {
    pub(super) fn new(inner: ForeignTransaction<PgDriver>, scope: Scope) -> Self {
        Self {
            inner,
            scope,
            enqueued: false,
        }
    }

    /// Runs `work` as a part that can fail by itself: undone when it gives `Err`, and the transaction goes on.
    ///
    /// # Errors
    ///
    /// What `work` gives, or the failure to mark or to undo the part.
    ///
    /// # Cancel safety
    ///
    /// When dropped in the middle of a statement, the transaction is lost: every later query on it fails. Between two of them what
    /// `work` has done so far is not undone: it is a part of the transaction.
    pub async fn savepoint<T, E, F>(&mut self, work: F) -> Result<T, E>
    where
        F: AsyncFnOnce(&mut Self) -> Result<T, E>,
        E: From<Error>,
    {
        part!(self, work)
    }

    /// Keeps what the transaction did.
    ///
    /// # Errors
    ///
    /// When PostgreSQL refuses the commit, or a statement in it had failed: nothing is kept then.
    ///
    /// # Cancel safety
    ///
    /// When dropped, it is not known whether the transaction was kept.
    pub async fn commit(self) -> Result<(), Error> {
        self.inner.commit().await?;
        if self.enqueued {
            self.scope.wake_workers();
        }
        Ok(())
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
    pub async fn rollback(self) -> Result<(), Error> {
        Ok(self.inner.rollback().await?)
    }
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction").finish_non_exhaustive()
    }
}
