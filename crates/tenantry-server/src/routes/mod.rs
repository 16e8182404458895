//! The routes, a file per resource.

pub(crate) mod api_keys;
pub(crate) mod auth;
pub(crate) mod backup_schedule;
pub(crate) mod backups;
pub(crate) mod balance;
pub(crate) mod erasure;
pub(crate) mod health;
mod idempotency;
pub(crate) mod jobs;
pub(crate) mod jwks;
pub(crate) mod members;
pub(crate) mod metrics;
pub(crate) mod migrations;
pub(crate) mod moves;
mod named;
pub(crate) mod openapi;
pub(crate) mod operations;
mod page;
pub(crate) mod password_resets;
mod place;
pub(crate) mod plans;
pub(crate) mod schedules;
pub(crate) mod servers;
pub(crate) mod size;
pub(crate) mod tenants;
pub(crate) mod usage;
mod words;
