//! Queries of diesel-async on a scope.
//!
//! A [`Transaction`] is what diesel's queries take as their connection. It is had from a [`Scope`] only, and it does not
//! give its own connection away: statements reach it one at a time, each looked at first. `commit`, `set` and whatever
//! else would outlast the transaction or leave the tenant are refused before they are sent, also with `sql_query`;
//! `batch_execute` is refused altogether.
//!
//! ```no_run
//! use diesel::prelude::*;
//! use diesel_async::RunQueryDsl;
//!
//! diesel::table! {
//!     contact (id) {
//!         id -> Integer,
//!         name -> Text,
//!     }
//! }
//!
//! # async fn example(scope: tenantry::Scope) -> Result<(), tenantry::Error> {
//! let names: Result<Vec<String>, tenantry::Error> = scope
//!     .transaction_diesel(async |tx| {
//!         diesel::insert_into(contact::table)
//!             .values((contact::id.eq(1), contact::name.eq("Ada")))
//!             .execute(tx)
//!             .await?;
//!         Ok(contact::table.select(contact::name).load(tx).await?)
//!     })
//!     .await;
//! # names?; Ok(()) }
//! ```
//!
//! The `table!` stands as for one customer, without `tenant_id`. `on_conflict(contact::id)` finds no key, because keys of
//! a tenant's tables begin with `tenant_id`: name the constraint by `on_constraint`.
//!
//! # What differs from the scope's own queries
//!
//! - Four round trips and more instead of one.
//! - Connections of their own, out of the same budget of the server: a process opens up to
//!   [`connections_max`](crate::PoolConfig::connections_max) to each tenant database for the scope's own queries, and up to
//!   as many again for diesel, once diesel is used. Turns, what a tenant may have, time-outs and ages are those of the scope's own
//!   queries, and a transaction is ended when it has lasted for too long.
//! - Each connection goes by a socket of this process, behind which the pool speaks to the server: so it can be ended
//!   whatever its holder does, and what goes over the network is encrypted and verified as for the scope's own.
//! - A connection stays with one schema for its life, because diesel keeps statements and types by name.
//! - A migration that changes a statement's result type makes that statement fail once per process; every connection
//!   from before is then replaced.
//! - A future that is dropped before its end loses its transaction: the connection is closed.
//! - diesel does not pass on every SQLSTATE: [`DbError::code`](crate::DbError::code) is then empty.
//!
//! Errors are diesel's where diesel runs the statement; `?` into [`tenantry::Error`](crate::Error) tells what they mean.

mod connection;
mod driver;
mod enqueue;
mod error;
mod transaction;

pub use connection::Rows;
pub(crate) use driver::DieselDriver;
pub use transaction::Transaction;

use crate::{Error, Scope, whole::whole};

impl Scope {
    /// Begins a transaction for queries of diesel. Dropping it undoes it; [`Transaction::commit`] keeps it.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future undoes what it had begun, by closing the connection.
    pub async fn begin_diesel(&self) -> Result<Transaction, Error> {
        let pools = &self.tenantry().inner.diesel;
        Ok(Transaction::new(pools.begin(self.caller()).await?, self.clone()))
    }

    /// Runs `work` in a transaction for queries of diesel: committed when it gives `Ok`, undone when it gives `Err` or the
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
    pub async fn transaction_diesel<T, E, F>(&self, work: F) -> Result<T, E>
    where
        F: AsyncFnOnce(&mut Transaction) -> Result<T, E>,
        E: From<Error>,
    {
        whole!(self.begin_diesel().await?, work)
    }
}
