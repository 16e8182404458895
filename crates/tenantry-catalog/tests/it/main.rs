//! The catalog on a real PostgreSQL.
#![expect(
    clippy::unwrap_used,
    reason = "in a test it is an assertion, also in what tests share"
)]

mod audit;
mod change;
mod connection_share;
mod lease;
mod start;
