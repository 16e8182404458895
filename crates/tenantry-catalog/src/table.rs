//! A module per table, a function per query.

pub mod app_migration;
pub mod audit_log;
pub mod idempotency;
pub mod installation;
pub mod operation;
pub mod operation_cleanup;
pub mod placement;
pub mod plan_rule;
pub mod server;
pub mod tenant;
pub mod tenant_database;
