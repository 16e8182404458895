//! The one-Sync PostgreSQL client: framing, authentication, statements, rows.
