//! Use cases and durable operations: provision, lifecycle, members, log-in, migrate, adopt.
//!
//! Nothing here knows of HTTP: who asks is an [`Authority`], what is refused an error enum per resource.

mod authority;

pub use authority::{Authority, Forbidden, Origin};
