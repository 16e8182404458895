//! Several statements that hold together.

use tenantry_core::{ApiKeyId, Role};
use tenantry_pool::Grant;
use tenantry_wire::Ahead;

use crate::{Error, ErrorKind, FromRow, Params, Row, jobs::JobWakes, whole::part};

/// Several statements of one tenant that take effect together.
///
/// Dropping it without [`commit`](Self::commit) undoes it.
pub struct Transaction {
    inner: tenantry_pool::Transaction,
    job_wakes: JobWakes,
    /// The API key that acts, if one does: what is enqueued belongs to it.
    api_key: Option<ApiKeyId>,
    /// Workers of this process are told when it commits.
    enqueued: bool,
}

impl Transaction {
    pub(crate) fn new(inner: tenantry_pool::Transaction, job_wakes: JobWakes, api_key: Option<ApiKeyId>) -> Self {
        Self {
            inner,
            job_wakes,
            api_key,
            enqueued: false,
        }
    }

    /// A job was enqueued in it.
    pub(crate) fn enqueued(&mut self) {
        self.enqueued = true;
    }

    /// The API key that acts, if one does.
    pub(crate) fn api_key(&self) -> Option<ApiKeyId> {
        self.api_key
    }

    /// A call of the mechanism's own, with the next statement or the commit.
    pub(crate) async fn put_ahead(&mut self, call: Ahead) -> Result<(), Error> {
        Ok(self.inner.put_ahead(call).await?)
    }

    /// What the tenant's plan gives, and what it has used up.
    pub(crate) fn grant(&self) -> &Grant {
        self.inner.grant()
    }

    /// With which rights it runs.
    pub(crate) fn role(&self) -> Role {
        self.inner.role()
    }

    /// Runs a statement and gives its rows.
    ///
    /// # Errors
    ///
    /// As [`Scope::query`](crate::Scope::query).
    ///
    /// # Cancel safety
    ///
    /// When dropped, the transaction is lost: every later call on it fails, and nothing of it is kept.
    pub async fn query(&mut self, sql: &str, params: Params<'_>) -> Result<Vec<Row>, Error> {
        let outcome = self.inner.query(sql, params).await?;
        Ok(outcome.rows.into_iter().map(Row).collect())
    }

    /// Runs a statement that gives exactly one row.
    ///
    /// # Errors
    ///
    /// As [`Scope::query_one`](crate::Scope::query_one).
    ///
    /// # Cancel safety
    ///
    /// As [`query`](Self::query).
    pub async fn query_one(&mut self, sql: &str, params: Params<'_>) -> Result<Row, Error> {
        self.query_opt(sql, params)
            .await?
            .ok_or_else(|| Error::new(ErrorKind::RowCount, "the query gave no row"))
    }

    /// Runs a statement that gives one row or none.
    ///
    /// # Errors
    ///
    /// As [`Scope::query_opt`](crate::Scope::query_opt).
    ///
    /// # Cancel safety
    ///
    /// As [`query`](Self::query).
    pub async fn query_opt(&mut self, sql: &str, params: Params<'_>) -> Result<Option<Row>, Error> {
        let mut rows = self.query(sql, params).await?;
        match rows.len() {
            0 | 1 => Ok(rows.pop()),
            _ => Err(Error::new(ErrorKind::RowCount, "the query gave more than one row")),
        }
    }

    /// Runs a statement and makes a value of each row.
    ///
    /// # Errors
    ///
    /// As [`Scope::query_as`](crate::Scope::query_as).
    ///
    /// # Cancel safety
    ///
    /// As [`query`](Self::query).
    pub async fn query_as<T: FromRow>(&mut self, sql: &str, params: Params<'_>) -> Result<Vec<T>, Error> {
        self.query(sql, params).await?.iter().map(T::from_row).collect()
    }

    /// Runs a statement that gives exactly one row, and makes a value of it.
    ///
    /// # Errors
    ///
    /// As [`Scope::query_one_as`](crate::Scope::query_one_as).
    ///
    /// # Cancel safety
    ///
    /// As [`query`](Self::query).
    pub async fn query_one_as<T: FromRow>(&mut self, sql: &str, params: Params<'_>) -> Result<T, Error> {
        T::from_row(&self.query_one(sql, params).await?)
    }

    /// Runs a statement that gives one row or none, and makes a value of it.
    ///
    /// # Errors
    ///
    /// As [`Scope::query_opt_as`](crate::Scope::query_opt_as).
    ///
    /// # Cancel safety
    ///
    /// As [`query`](Self::query).
    pub async fn query_opt_as<T: FromRow>(&mut self, sql: &str, params: Params<'_>) -> Result<Option<T>, Error> {
        self.query_opt(sql, params).await?.as_ref().map(T::from_row).transpose()
    }

    /// Runs a statement and gives the number of rows it touched.
    ///
    /// # Errors
    ///
    /// As [`Scope::execute`](crate::Scope::execute).
    ///
    /// # Cancel safety
    ///
    /// As [`query`](Self::query).
    pub async fn execute(&mut self, sql: &str, params: Params<'_>) -> Result<u64, Error> {
        Ok(self.inner.query(sql, params).await?.affected)
    }

    /// Runs `work` as a part that can fail by itself: undone when it gives `Err`, and the transaction goes on.
    ///
    /// # Errors
    ///
    /// What `work` gives, or the failure to mark or to undo the part.
    ///
    /// # Cancel safety
    ///
    /// When dropped in the middle of a statement, the transaction is lost, as by [`query`](Self::query). Between two of them what
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
    /// When PostgreSQL refuses the commit (a deferred constraint, a serialization failure): nothing is kept then.
    ///
    /// # Cancel safety
    ///
    /// When dropped, it is not known whether the transaction was kept.
    pub async fn commit(self) -> Result<(), Error> {
        let database = self.inner.database();
        self.inner.commit().await?;
        if self.enqueued {
            self.job_wakes.wake(database);
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
