//! Making a server and a database ready: roles, schemas, seal, fence, ledger.
//!
//! Both can be run again at any time, by several processes at once: what is there is left or brought up to date, and
//! nothing that somebody else made is touched.

mod database;
mod error;
mod harden;
mod lock;
mod server;
mod session;

pub use database::{Bootstrapped, Credentials, DatabaseRequest, Incarnation, database};
pub use error::BootstrapError;
pub use harden::{GROUPS, Group, Hardening, Left, harden, hardening, unharden};
pub use server::{Mover, Server, server};

/// The version of what bootstrap makes in a database. A database with a higher one belongs to a newer Tenantry.
pub const VERSION: i32 = tenantry_core::TENANT_DATABASE_VERSION;

/// The oldest PostgreSQL that has `grant set on parameter` and security-invoker views.
pub const OLDEST_SERVER_VERSION: i32 = 150_000;
