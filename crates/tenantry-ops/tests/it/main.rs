//! The use cases and operations on a real PostgreSQL.
#![expect(
    clippy::unwrap_used,
    reason = "in a test it is an assertion, also in what tests share"
)]

mod create;
mod fleet;
mod identity;
