//! Use cases and durable operations: provision, lifecycle, members, log-in, migrate, adopt.
