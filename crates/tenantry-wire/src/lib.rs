//! The PostgreSQL client of the hot path: context and query under one Sync, in one round trip.
//!
//! A [`Connection`] is used by one task at a time (`&mut self`): no background task, no channel. It knows whether it is
//! idle; a call that was abandoned halfway leaves it unusable, and whoever holds it closes it.

mod endpoint;
mod error;
mod row;

pub use endpoint::{Address, Endpoint, Tls};
pub use error::{DbError, Error};
pub use row::{Column, ColumnIndex, Row};
