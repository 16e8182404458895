//! The engine against a real PostgreSQL.

#![expect(
    clippy::unwrap_used,
    reason = "a step of a test that fails is a failed test, in helpers too"
)]

mod admin_tls;
mod adopt_rows;
mod adopt_schema;
mod audit;
mod audit_compare;
mod audit_corpus;
mod bootstrap;
mod check;
mod fence;
mod field_force;
mod finish;
mod harden;
mod home;
mod home_rows;
mod isolate_eighteen;
mod isolate_foreign_keys;
mod isolate_keys;
mod isolate_kinds;
mod isolate_real;
mod isolate_refused;
mod keys;
mod migrate_arrive;
mod migrate_data;
mod migrate_forms;
mod migrate_later;
mod migrate_ledger;
mod migrate_locks;
mod migrate_replay;
mod migrate_time_outs;
mod seal;
mod seal_forged;
mod seal_plan;
mod seal_signed;
mod seal_standby;
mod seal_support;
mod seal_token;
mod stream;
mod stream_pieces;
mod stream_support;
mod structure;
mod support;
mod transfer;
mod transfer_jobs;
mod transfer_lasting;
mod transfer_preflight;
mod transfer_tables;
