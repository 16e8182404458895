//! Connections to tenant databases: bounded, fair, bound to tenants; and where tenants live.

mod config;
mod copy;
mod database;
mod error;
pub mod foreign;
mod home;
mod member;
mod placements;
mod pools;
mod queue;
mod raw;
mod stream;
mod timer;
mod transaction;

pub use config::PoolConfig;
pub use copy::CopyOut;
pub use database::PoolStatus;
pub use error::Error;
pub use home::{Home, Incarnation, LocateError, PlacementSource};
pub use pools::{Caller, Pools};
pub use raw::RawScript;
pub use stream::RowStream;
pub use transaction::Transaction;
