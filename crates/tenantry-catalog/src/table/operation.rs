//! Durable pieces of work.
