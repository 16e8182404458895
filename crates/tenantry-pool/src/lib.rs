//! Connections to tenant databases: bounded, fair, bound to tenants; and where tenants live.

mod config;
mod home;

pub use config::PoolConfig;
pub use home::{Home, Incarnation, LocateError, PlacementSource};
