//! Work on tenant databases: bootstrap, seal, fence, isolate, provision, migrate, adopt.

pub mod admin;
pub mod adopt;
pub mod archive;
pub mod audit;
pub mod bootstrap;
pub mod check;
pub mod erasure;
pub mod fence;
pub mod home;
pub mod keys;
pub mod load;
pub mod log;
pub mod password;
mod roles;
pub mod seal;
pub mod size;
mod sql_error;
pub mod standby;
pub mod structure;
pub mod survey;
pub mod transfer;
pub mod turn;

pub use roles::Roles;
pub use sql_error::SqlError;
pub mod isolate;
pub mod migrate;
