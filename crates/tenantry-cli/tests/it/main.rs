//! The binary as a user runs it: what it prints, what it leaves, how it ends.

#![expect(
    clippy::unwrap_used,
    reason = "a step of a test that fails is a failed test, in helpers too"
)]
#![expect(
    clippy::duplicate_mod,
    reason = "the generated program keeps its routes to itself, and tests serve them too"
)]

mod adopt;
mod archive;
mod audit;
mod away;
mod balance;
mod bench;
mod beside;
mod completions;
mod configuration;
mod dev;
mod doctor;
mod fleet;
mod init;
mod job;
mod logs;
mod packaging;
mod processes;
mod rollout;
mod serve;
mod support;
