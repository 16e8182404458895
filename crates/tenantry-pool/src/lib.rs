//! Connections to tenant databases: bounded, fair, bound to tenants; and where tenants live.

mod config;
mod copy;
mod counts;
mod database;
mod error;
pub mod foreign;
mod heat;
mod home;
mod member;
mod place;
mod placements;
mod pools;
mod queue;
mod raw;
mod seat;
mod server;
mod settle;
mod shares;
mod slow;
mod stream;
mod timer;
mod transaction;
mod worker;

pub use config::PoolConfig;
pub use copy::CopyOut;
pub use counts::PoolCounts;
pub use database::PoolStatus;
pub use error::Error;
pub use home::{Home, Incarnation, LocateError, PlacementSource, Served};
pub use placements::Grant;
pub use pools::{Caller, Pools};
pub use raw::RawScript;
pub use server::ServerStatus;
pub use shares::{Share, ShareError, ShareSource, Standing};
pub use stream::RowStream;
pub use transaction::Transaction;
