//! The catalog on a real PostgreSQL.

mod audit;
mod change;
mod lease;
mod start;
