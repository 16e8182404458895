//! The routes, a file per resource.

pub(crate) mod health;
pub(crate) mod metrics;
pub(crate) mod openapi;
