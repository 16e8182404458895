//! The test support, tested: what leaks here, every test leaks.
#![expect(
    clippy::unwrap_used,
    reason = "in a test it is an assertion, also in what tests share"
)]

mod ended;
mod own;
mod proxy;
mod shared;
