//! Access to one tenant's rows.

use std::{fmt, sync::Arc};

use postgres_types::ToSql;
use tenantry_core::{AccountId, Context, Role};

use tenantry_pool::{Caller, Pools};

use crate::{
    CopyOut, Error, ErrorKind, FromRow, ResolveError, Row, RowStream, Tenantry, Transaction, Verified, whole::whole,
};

/// Parameters of a statement: `&[&a, &b]`.
pub type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

/// Access to one tenant's rows, and to nothing else.
///
/// Write statements as if there were one customer. Each goes to the tenant's home together with the context, under one
/// Sync: one round trip. PostgreSQL itself refuses every row of another tenant.
#[derive(Clone)]
pub struct Scope {
    tenantry: Tenantry,
    verified: Verified,
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope")
            .field("context", self.context())
            .finish_non_exhaustive()
    }
}

impl Scope {
    pub(crate) fn new(tenantry: Tenantry, verified: Verified) -> Self {
        Self { tenantry, verified }
    }

    /// What the scope was made of.
    pub(crate) fn verified(&self) -> &Verified {
        &self.verified
    }

    pub(crate) fn caller(&self) -> &Arc<Caller> {
        &self.verified.caller
    }

    /// Whose rows, who acts, with which rights.
    pub fn context(&self) -> &Context {
        self.verified.context()
    }

    /// The handle this scope came from.
    pub fn tenantry(&self) -> &Tenantry {
        &self.tenantry
    }

    /// The same access with no more rights than `role`.
    #[must_use]
    pub fn at_most(&self, role: Role) -> Self {
        let context = Context {
            role: self.context().role.min(role),
            ..self.context().clone()
        };
        Self::new(self.tenantry.clone(), self.verified.beside(context))
    }

    pub(crate) fn pools(&self) -> &Pools {
        &self.tenantry.inner.pools
    }

    /// Runs a statement and gives its rows.
    ///
    /// # Errors
    ///
    /// Any [`ErrorKind`] but `RowCount` and `Column`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves no open transaction: the connection is closed. Whether the statement took effect is
    /// then unknown, as when a network fails.
    pub async fn query(&self, sql: &str, params: Params<'_>) -> Result<Vec<Row>, Error> {
        let outcome = self.pools().query(self.caller(), sql, params).await?;
        Ok(outcome.rows.into_iter().map(Row).collect())
    }

    /// Runs a statement that gives exactly one row.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query), and [`ErrorKind::RowCount`] for none or several rows.
    pub async fn query_one(&self, sql: &str, params: Params<'_>) -> Result<Row, Error> {
        self.query_opt(sql, params)
            .await?
            .ok_or_else(|| Error::new(ErrorKind::RowCount, "the query gave no row"))
    }

    /// Runs a statement that gives one row or none.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query), and [`ErrorKind::RowCount`] for several rows.
    pub async fn query_opt(&self, sql: &str, params: Params<'_>) -> Result<Option<Row>, Error> {
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
    /// As [`query`](Self::query), and [`ErrorKind::Column`].
    pub async fn query_as<T: FromRow>(&self, sql: &str, params: Params<'_>) -> Result<Vec<T>, Error> {
        self.query(sql, params).await?.iter().map(T::from_row).collect()
    }

    /// Runs a statement that gives exactly one row, and makes a value of it.
    ///
    /// # Errors
    ///
    /// As [`query_one`](Self::query_one), and [`ErrorKind::Column`].
    pub async fn query_one_as<T: FromRow>(&self, sql: &str, params: Params<'_>) -> Result<T, Error> {
        T::from_row(&self.query_one(sql, params).await?)
    }

    /// Runs a statement that gives one row or none, and makes a value of it.
    ///
    /// # Errors
    ///
    /// As [`query_opt`](Self::query_opt), and [`ErrorKind::Column`].
    pub async fn query_opt_as<T: FromRow>(&self, sql: &str, params: Params<'_>) -> Result<Option<T>, Error> {
        self.query_opt(sql, params).await?.as_ref().map(T::from_row).transpose()
    }

    /// Runs a statement and gives the number of rows it touched.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query).
    pub async fn execute(&self, sql: &str, params: Params<'_>) -> Result<u64, Error> {
        Ok(self.pools().query(self.caller(), sql, params).await?.affected)
    }

    /// The newest of the application's migrations that the tenant's tables have, 0 for none: while a roll-out runs, tenants
    /// differ. It is remembered with the tenant's home and forgotten when it is migrated; `None` with a source of
    /// placements that does not know it.
    ///
    /// # Errors
    ///
    /// The kinds about the tenant, and [`ErrorKind::Unavailable`].
    pub async fn schema_version(&self) -> Result<Option<i64>, Error> {
        Ok(self.pools().schema_version(self.caller()).await?)
    }

    /// Whether the account has a membership in this tenant, to check a reference to a person before it is stored.
    ///
    /// # Errors
    ///
    /// When the catalog cannot be asked.
    pub async fn is_member(&self, account: AccountId) -> Result<bool, Error> {
        let unavailable = |error: ResolveError| Error::new(ErrorKind::Unavailable, error.to_string());
        let resolver = self.tenantry.resolver().map_err(unavailable)?;
        let tenant = self.context().tenant;
        resolver.is_member(tenant, account).await.map_err(unavailable)
    }

    /// Runs a statement whose rows are read from the socket when they are asked for: memory stays bounded.
    ///
    /// The statement's transaction stays open until the stream ends or is dropped.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query).
    pub async fn query_stream(&self, sql: &str, params: Params<'_>) -> Result<RowStream, Error> {
        Ok(RowStream::new(self.pools().stream(self.caller(), sql, params).await?))
    }

    /// Runs `copy (…) to stdout` and gives its data: the fastest way to get many rows out.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query).
    pub async fn copy_out(&self, sql: &str) -> Result<CopyOut, Error> {
        Ok(CopyOut::new(self.pools().copy_out(self.caller(), sql).await?))
    }

    /// Inserts many rows by one statement, all or none: `columns` of `table`, one value each per row.
    ///
    /// The values go as one array per column, because PostgreSQL refuses `copy … from` under row security.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query); [`ErrorKind::Parameter`] where a row has not one value per column.
    pub async fn insert_many(&self, table: &str, columns: &[&str], rows: &[Params<'_>]) -> Result<u64, Error> {
        crate::bulk::insert_many(self.pools(), self.caller(), table, columns, rows).await
    }

    /// Begins a transaction. Dropping it undoes it; [`Transaction::commit`] keeps it.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query).
    pub async fn begin(&self) -> Result<Transaction, Error> {
        let inner = self.pools().begin(self.caller().clone()).await?;
        Ok(Transaction::new(
            inner,
            self.tenantry.inner.job_wakes.clone(),
            self.context().api_key(),
        ))
    }

    /// Runs `work` in a transaction: committed when it gives `Ok`, undone when it gives `Err` or the future is dropped.
    ///
    /// The context travels with BEGIN and the first statement.
    ///
    /// # Errors
    ///
    /// What `work` gives, or the failure to begin or to commit.
    pub async fn transaction<T, E, F>(&self, work: F) -> Result<T, E>
    where
        F: AsyncFnOnce(&mut Transaction) -> Result<T, E>,
        E: From<Error>,
    {
        whole!(self.begin().await?, work)
    }
}
