//! The control database: tenants, placements, accounts, operations and what else Tenantry has to remember.
//!
//! All SQL of that database stands in this crate, a file per table, a function per query. A function takes whatever can
//! run a query, so that it joins its caller's transaction. Secrets are encrypted before they leave the process.

mod catalog;
pub mod change;
mod create;
mod db;
mod error;
mod follow;
pub mod log;
mod master_key;
mod migrate;
mod secret;
mod table;
mod text;
mod tls;

pub use catalog::{Catalog, Client, Transaction};
pub use create::{CATALOG_NAME, close_maintenance_databases, create_catalog};
pub use db::Db;
pub use error::{CatalogError, ConstraintName};
pub use follow::{ChangeEvent, ChangeFollower, Listener, Look};
pub use master_key::{MasterKey, MasterKeyError};
pub use secret::{Column, SecretError};
pub use table::*;
pub use text::UnknownWord;
