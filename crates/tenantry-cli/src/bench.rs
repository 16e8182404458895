//! The benchmark: every figure that the project promises, measured side by side in one run.
//!
//! This is the only place outside of tests that reads a tenant's rows without a context: the limit that ours is compared
//! with is a copy of the tables without row security.

mod access;
mod cache;
mod cpu;
mod create;
mod crowd;
mod fleet;
mod folder;
mod homes;
mod http;
mod jobs;
mod limiter;
mod measure;
mod memory;
mod moves;
mod peers;
mod placed;
mod queries;
mod report;
mod resolve;
mod run;
mod scale;
mod script;
mod sealing;
mod servers;
mod tails;
#[cfg(feature = "bench-sqlx")]
mod usual_sqlx;
mod world;

pub(crate) use report::Report;
pub(crate) use run::{NAMES, Wanted, run};
