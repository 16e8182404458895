//! A module per table, a function per query.

pub mod account;
pub mod api_key;
pub mod app_derived;
pub mod app_migration;
pub mod audit_log;
pub mod connection_share;
pub mod directory;
pub mod event;
pub mod fleet_state;
pub mod idempotency;
pub mod installation;
pub mod login_budget;
pub mod membership;
pub mod operation;
pub mod operation_cleanup;
pub mod operator_key;
pub mod overlay_base;
pub mod password_reset;
pub mod placement;
pub mod plan_rule;
pub mod server;
pub mod session;
pub mod signing_key;
pub mod tenant;
pub mod tenant_database;
