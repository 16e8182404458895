//! The pool against a real PostgreSQL.

#![expect(
    clippy::unwrap_used,
    reason = "a step of a test that fails is a failed test, in helpers too"
)]

mod affinity;
mod bounds;
mod cancel;
mod counts;
mod ended;
mod fleet;
mod held;
mod lanes;
mod moves;
mod round_trip;
mod server;
mod shares;
mod silent;
mod support;
