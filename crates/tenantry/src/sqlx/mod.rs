//! Queries of sqlx on a scope: `query!`, `query_as!`, `query()`, `query_as()` and what else takes an executor.
//!
//! A [`Scope`] is an executor: each query on it is a transaction of its own. Several that hold together go on a
//! [`Transaction`], which is one too. There is no other way in: neither gives its connection away, so that nothing but
//! statements reaches it, one at a time, each looked at first. `commit`, `set`, `prepare` and whatever else would outlast
//! the transaction or leave the tenant are refused before they are sent, also with `raw_sql`.
//!
//! ```no_run
//! # async fn example(scope: tenantry::Scope) -> Result<(), tenantry::Error> {
//! let names: Vec<String> = sqlx::query_scalar("select name from contact where company = $1")
//!     .bind("Acme")
//!     .fetch_all(&scope)
//!     .await?;
//!
//! let added: Result<i64, tenantry::Error> = scope
//!     .transaction_sqlx(async |tx| {
//!         sqlx::query("insert into contact (name) values ($1)")
//!             .bind("Ada")
//!             .execute(&mut *tx)
//!             .await?;
//!         Ok(sqlx::query_scalar("select count(*) from contact").fetch_one(&mut *tx).await?)
//!     })
//!     .await;
//! # added?; Ok(()) }
//! ```
//!
//! # Checked at compile time
//!
//! `query!` and `query_as!` are checked against a plain database: an empty one with the application's migrations run as
//! they stand, as if there were one customer (`DATABASE_URL=… cargo sqlx prepare`, then commit `.sqlx`). The only
//! difference in a tenant's tables is one more column, so name the columns instead of `select *`.
//!
//! # What differs from the scope's own queries
//!
//! - Four round trips instead of one: sqlx does not pipeline.
//! - Connections of their own, out of the same budget of the server: a process opens up to
//!   [`connections_max`](crate::PoolConfig::connections_max) to each tenant database for the scope's own queries, and up to
//!   as many again for sqlx, once sqlx is used. Turns, what a tenant may have, time-outs and ages are those of the scope's own
//!   queries, and a transaction is ended when it has lasted for too long.
//! - Each connection goes by a socket of this process, behind which the pool speaks to the server: so it can be ended
//!   whatever its holder does, and what goes over the network is encrypted and verified as for the scope's own.
//! - A connection stays with one schema for its life, because sqlx keeps statements and types by name. Tenants in shared
//!   tables share connections; many tenants with a schema of their own in one database make them come and go.
//! - A migration that changes a statement's result type makes that statement fail once per process; every connection
//!   from before is then replaced.
//! - A stream that is dropped before its end, as any future that is, loses its transaction: the connection is closed.
//! - sqlx sends the password in the clear to a server that asks for it so: encrypted on the way, but told to that server.
//!
//! Errors are sqlx's where sqlx runs the statement; `?` into [`tenantry::Error`](crate::Error) tells what they mean.

mod driver;
mod enqueue;
mod error;
mod executor;
mod transaction;

pub(crate) use driver::PgDriver;
pub use transaction::Transaction;

use crate::{Error, Scope, whole::whole};

impl Scope {
    /// Begins a transaction for queries of sqlx. Dropping it undoes it; [`Transaction::commit`] keeps it.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future undoes what it had begun, by closing the connection.
    pub async fn begin_sqlx(&self) -> Result<Transaction, Error> {
        let pools = &self.tenantry().inner.sqlx;
        Ok(Transaction::new(pools.begin(self.caller()).await?, self.clone()))
    }

    /// Runs `work` in a transaction for queries of sqlx: committed when it gives `Ok`, undone when it gives `Err` or the
    /// future is dropped.
    ///
    /// # Errors
    ///
    /// What `work` gives, or the failure to begin or to commit.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future undoes what `work` did, by closing the connection; in the middle of the commit it is not known whether it
    /// was kept.
    pub async fn transaction_sqlx<T, E, F>(&self, work: F) -> Result<T, E>
    where
        F: AsyncFnOnce(&mut Transaction) -> Result<T, E>,
        E: From<Error>,
    {
        whole!(self.begin_sqlx().await?, work)
    }
}
