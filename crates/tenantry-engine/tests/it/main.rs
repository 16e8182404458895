//! The engine against a real PostgreSQL.

mod adopt_schema;
mod isolate_keys;
mod isolate_refused;
mod support;
