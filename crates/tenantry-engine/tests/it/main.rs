//! The engine against a real PostgreSQL.

mod adopt_schema;
