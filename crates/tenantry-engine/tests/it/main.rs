//! The engine against a real PostgreSQL.

mod adopt_schema;
mod bootstrap;
mod isolate_keys;
mod isolate_refused;
mod seal;
mod seal_support;
mod support;
