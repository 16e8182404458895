//! The other drivers are there: what fails in their cases fails for want of a scope.

pub use tenantry::{diesel, sqlx};

fn main() {}
