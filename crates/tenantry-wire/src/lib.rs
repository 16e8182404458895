//! The PostgreSQL client of the hot path: context and query under one Sync, in one round trip.
//!
//! A [`Connection`] is used by one task at a time (`&mut self`): no background task, no channel. It knows whether it is
//! idle; a call that was abandoned halfway leaves it unusable, and whoever holds it closes it.

mod admit;
mod cancel;
mod connect;
mod connection;
mod copy;
mod endpoint;
mod error;
mod inbox;
mod lead;
mod prepare;
mod raw;
pub mod replication;
mod row;
mod run;
mod script;
mod session;
mod socket;
mod statement;
mod tls;

pub use admit::{admit, leaves_traces, may_commit};
pub use cancel::{CancelToken, Leash};
pub use connection::{Connection, Options, TransactionStatus};
pub use endpoint::{Address, Endpoint, Tls};
pub use error::{DbError, Error};
pub use lead::Ahead;
pub use raw::{RawOutcome, RawParams, RawRow, RawSession};
pub use row::{Column, ColumnIndex, Row};
pub use run::{Outcome, Params, encode_value};
pub use script::statements;
pub use session::{Binding, RowReader, Savepoint, Session, is_stale};
pub use socket::open_socket;
