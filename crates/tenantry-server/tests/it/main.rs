//! The server over real sockets, on a real PostgreSQL, with the reference application and a tenant of each isolation.

#![expect(clippy::unwrap_used, reason = "what is not there fails the test, which is the point")]

mod application;
mod authorization;
mod away;
mod backups;
mod bad_input;
mod control;
mod credentials;
mod erasure;
mod faults;
mod harness;
mod history;
mod isolation;
mod jobs;
mod limits;
mod migrations;
mod moves;
mod observability;
mod openapi;
mod outside;
mod roles;
mod search;
mod servers;
mod shutdown;
mod slow;
mod target;
