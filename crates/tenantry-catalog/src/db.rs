//! Running a query on the catalog.

use std::future::Future;

use deadpool_postgres::GenericClient;
use postgres_types::ToSql;
use tokio_postgres::{Error, Row};

/// Values of a statement's parameters.
type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

/// Whatever runs a query on the catalog: a [`Client`](crate::Client) or a [`Transaction`](crate::Transaction).
///
/// A statement is prepared with its first use on a connection and kept there, which saves a round trip and the planning with
/// each later one. The texts are this crate's own, so there are only so many.
pub trait Db: Send + Sync {
    /// Runs a statement and gives its rows.
    fn query(&self, sql: &str, params: Params<'_>) -> impl Future<Output = Result<Vec<Row>, Error>> + Send;

    /// Runs a statement that gives one row or none.
    fn query_opt(&self, sql: &str, params: Params<'_>) -> impl Future<Output = Result<Option<Row>, Error>> + Send;

    /// Runs a statement that gives exactly one row.
    fn query_one(&self, sql: &str, params: Params<'_>) -> impl Future<Output = Result<Row, Error>> + Send;

    /// Runs a statement and gives the number of rows it touched.
    fn execute(&self, sql: &str, params: Params<'_>) -> impl Future<Output = Result<u64, Error>> + Send;
}

impl<C: GenericClient + Send + Sync> Db for C {
    async fn query(&self, sql: &str, params: Params<'_>) -> Result<Vec<Row>, Error> {
        let statement = self.prepare_cached(sql).await?;
        GenericClient::query(self, &statement, params).await
    }

    async fn query_opt(&self, sql: &str, params: Params<'_>) -> Result<Option<Row>, Error> {
        let statement = self.prepare_cached(sql).await?;
        GenericClient::query_opt(self, &statement, params).await
    }

    async fn query_one(&self, sql: &str, params: Params<'_>) -> Result<Row, Error> {
        let statement = self.prepare_cached(sql).await?;
        GenericClient::query_one(self, &statement, params).await
    }

    async fn execute(&self, sql: &str, params: Params<'_>) -> Result<u64, Error> {
        let statement = self.prepare_cached(sql).await?;
        GenericClient::execute(self, &statement, params).await
    }
}

/// A statement whose commit does not wait for the disk; it reads from `light`. A catalog that crashes may forget what it did, so
/// it is for what can be found out or done again, of which an operation notes much: that a lease goes on, that a step begins,
/// what a schema's own ledger says.
pub(crate) fn light(statement: &str) -> String {
    format!("with light as materialized (select set_config('synchronous_commit', 'off', true)) {statement}")
}
