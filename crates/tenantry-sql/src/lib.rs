//! SQL text: quoting types, and the policies and grants of an isolated table.
//!
//! Identifiers and literals reach dynamic SQL through the types here only, so that the check of PostgreSQL's 63 bytes and
//! the quoting stand in one place. Nothing here knows a driver.

mod grant;
mod identifier;
mod literal;
mod policy;

pub use grant::{isolated_table_grants, reference_table_grants, schema_usage, sequence_usage};
pub use identifier::{Identifier, IdentifierError, MAX_IDENTIFIER_BYTES, Qualified, TableName};
pub use literal::{Literal, LiteralError};
pub use policy::{POLICY_NAMES, TENANT_COLUMN, TENANT_PREDICATE, WRITE_CHECK, WRITE_PREDICATE, isolate_rows, policies};
