//! Moving a tenant from one home to another.

pub mod stream;
