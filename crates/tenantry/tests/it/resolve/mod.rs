//! From credentials to a checked context.

mod dropped;
mod forged;
mod keys;
mod layer;
#[cfg(feature = "files")]
mod links;
mod matrix;
mod outage;
mod outside;
mod revoked;
mod seen;
mod support;
