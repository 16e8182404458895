//! The wire client against a real PostgreSQL.

#![expect(
    clippy::unwrap_used,
    reason = "a step of a test that fails is a failed test, in helpers too"
)]

mod connect;
mod query;
mod replication;
mod session;
mod support;
mod tls;
