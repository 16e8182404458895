//! Multi-tenancy on PostgreSQL for Rust applications: resolve a context, scope a query.

pub mod axum;
