//! The engine against a real PostgreSQL.

mod adopt_rows;
mod adopt_schema;
mod bootstrap;
mod isolate_eighteen;
mod isolate_foreign_keys;
mod isolate_keys;
mod isolate_kinds;
mod isolate_real;
mod isolate_refused;
mod migrate_data;
mod migrate_later;
mod migrate_ledger;
mod seal;
mod seal_forged;
mod seal_support;
mod seal_token;
mod support;
