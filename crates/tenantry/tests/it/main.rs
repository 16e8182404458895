//! The library against a real PostgreSQL, in all three isolations.

#![expect(
    clippy::unwrap_used,
    reason = "a step of a test that fails is a failed test, in helpers too"
)]

#[cfg(all(feature = "sqlx", feature = "diesel"))]
mod adapters;
mod busy;
mod cache;
mod compile_fail;
mod copy;
mod dropped;
mod events;
#[cfg(feature = "files")]
mod files;
mod handed_over;
mod history;
mod isolation;
mod jobs;
mod migration;
mod mistakes;
mod moves;
mod pooler;
mod raw;
mod replicas;
mod resolve;
mod roles;
mod scope;
mod shares;
mod stream;
mod transaction;
mod world;
